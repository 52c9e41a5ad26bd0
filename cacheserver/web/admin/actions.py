"""What an operator can do to a running node: scrub, verify, purge, lift bans, look at one object.

Owns: the routes that act, their bodies, the guard against pages that post across sites, one log event for each act.
The work is done elsewhere. Never logs a query string: tokens live there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import hdrs, web

from cacheserver.core.cache.freshness import assess
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.cache_control import CacheControl
from cacheserver.core.piece_map import ABSENT, PRESENT
from cacheserver.core.request.target import Target
from cacheserver.core.strict_json import strict_json
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.purging import purge
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.ports import Clock
from cacheserver.store.checking import Verdict
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.web.admin.app import json_reply

MAX_BODY_BYTES: Final = 16 * 1024
VERIFY_PIECES: Final = 64
"""Pieces that one request verifies; whoever wants more asks again."""
_BODY_S: Final = 10.0
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{32}")
_log = get_logger(__name__)


class AdminActions:
    """The acting half of the admin API."""

    def __init__(
        self,
        *,
        store: Store,
        scrubber: Scrubber,
        sources: SourceHealth,
        admit: Callable[[str], Target | None],
        clock: Clock,
        is_pinned: Callable[[str], bool] = lambda _object_id: False,
    ) -> None:
        """``admit`` gives the target of a URL on an allowed host, None for others."""
        self._is_pinned = is_pinned
        self._store = store
        self._scrubber = scrubber
        self._sources = sources
        self._admit = admit
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        """Add the routes to the admin application, behind its token and Host rules."""
        app.router.add_get("/api/v1/scrub", self.scrub_progress)
        app.router.add_post("/api/v1/scrub", self.scrub)
        app.router.add_post("/api/v1/bans/lift", self.lift)
        app.router.add_post("/api/v1/purge", self.purge)
        app.router.add_post("/api/v1/verify", self.verify)
        app.router.add_get("/api/v1/objects", self.object)

    # -- scrub --------------------------------------------------------------------------------------------------

    async def scrub_progress(self, _request: web.Request) -> web.Response:
        """How far the passes are, and what they have found."""
        return json_reply(200, self._scrubber.progress())

    async def scrub(self, request: web.Request) -> web.Response:
        """Begin a pass over everything; 202, also while one that was asked for still runs."""
        await json_body(request, allowed=())
        started = self._scrubber.start_now()
        event(_log, "admin_scrub", client=request.remote, started=started)
        return json_reply(202, {"started": started} | self._scrubber.progress())

    # -- sources ------------------------------------------------------------------------------------------------

    async def lift(self, request: web.Request) -> web.Response:
        """End the ban of one source; 404 where there is none."""
        source = text_member(await json_body(request, allowed=("source",)), "source")
        banned = source in {ban.source for ban in self._sources.bans(self._clock.monotonic_s())}
        if banned:
            self._sources.lift(source)
        event(_log, "admin_ban_lift", client=request.remote, source=source, lifted=banned)
        if not banned:
            return json_reply(404, {"error": "this source is not banned"})
        return json_reply(200, {"lifted": source})

    # -- objects ------------------------------------------------------------------------------------------------

    async def purge(self, request: web.Request) -> web.Response:
        """Remove what is stored for a URL, its variants included, or one object by its id; 404 where nothing is."""
        body = await json_body(request, allowed=("url", "object_id"))
        if len(body) != 1:
            raise web.HTTPBadRequest(reason="name either url or object_id")
        object_id = (
            self._target(text_member(body, "url")).object_id if "url" in body else text_member(body, "object_id")
        )
        if not _OBJECT_ID.fullmatch(object_id):
            raise web.HTTPBadRequest(reason="object_id is not 32 hex digits")
        done = await purge(self._store, object_id)
        volumes = {"away": list(done.away), "left_on": list(done.left_on)}
        event(
            _log, "admin_purge", client=request.remote, object_id=object_id, removed=done.removed,
            away=volumes["away"], left_on=volumes["left_on"],
        )  # fmt: skip
        if not done.removed:
            away = f"; away now: {', '.join(done.away)}" if done.away else ""
            return json_reply(404, {"error": f"nothing is stored there{away}"} | volumes)
        return json_reply(200, {"object_id": object_id, "purged": done.removed} | volumes)

    async def object(self, request: web.Request) -> web.Response:
        """Facts of what is stored for a URL; 404 where nothing is."""
        urls = request.query.getall("url", [])
        if len(urls) != 1:
            raise web.HTTPBadRequest(reason="name one url, percent-encoded")
        target = self._target(urls[0])
        found = await self._store.find(target.object_id)
        event(_log, "admin_object", client=request.remote, object_id=target.object_id, found=found is not None)
        if isinstance(found, VaryMarker):
            return json_reply(200, {"object_id": found.object_id, "vary": list(found.names)})
        if found is None or found.representation.key != target.key:
            return json_reply(404, {"error": "nothing is stored there"})
        return json_reply(200, self._facts(found, target))

    async def verify(self, request: web.Request) -> web.Response:
        """Read pieces of one object again, at most 64 from ``first_piece`` on; bad ones go out of service."""
        body = await json_body(request, allowed=("url", "first_piece"))
        target = self._target(text_member(body, "url"))
        first = body.get("first_piece", 0)
        if not isinstance(first, int) or isinstance(first, bool) or first < 0:
            raise web.HTTPBadRequest(reason="first_piece is not a whole number")
        found = await self._store.find(target.object_id)
        if not isinstance(found, StoredObject) or found.representation.key != target.key:
            return json_reply(404, {"error": "nothing is stored there"})
        answer = await self._verified(found, first)
        bad = len(answer["bad"])
        event(_log, "admin_verify", client=request.remote, object_id=target.object_id, first_piece=first, bad=bad)
        return json_reply(200, answer | {"trust": found.representation.trust.word})

    async def _verified(self, obj: StoredObject, first: int) -> dict[str, Any]:
        checked, piece, bad = 0, first, []
        while piece < len(obj.pieces) and checked < VERIFY_PIECES and obj.usable:
            if obj.pieces.state(piece) != ABSENT:
                verdict = await self._store.checker.recheck(obj, piece, self._store.executor)
                checked += verdict is not Verdict.GONE
                if verdict in (Verdict.BAD, Verdict.UNREADABLE):
                    bad.append({"piece": piece, "found": verdict.value})
            piece += 1
        return {
            "object_id": obj.object_id,
            "pieces": len(obj.pieces),
            "checked": checked,
            "bad": bad,
            "next_piece": piece if piece < len(obj.pieces) else None,
        }

    def _facts(self, obj: StoredObject, target: Target) -> dict[str, Any]:
        rep, pieces = obj.representation, obj.pieces
        freshness = assess(rep, target.service, target.path_and_query, CacheControl(), self._clock.wall_s())
        lifetime_s = freshness.lifetime_s
        stored = len(pieces) - len(pieces.pieces_in_state(0, len(pieces), ABSENT))
        return {
            "object_id": obj.object_id,
            "service": rep.service,
            "origin": rep.origin,
            "path": target.path_and_query.partition("?")[0],
            "volume": obj.volume.path,
            "length_bytes": rep.length_bytes,
            "piece_size_bytes": rep.piece_size_bytes,
            "pieces": len(pieces),
            "pieces_stored": stored,
            "pieces_checked": len(pieces.pieces_in_state(0, len(pieces), PRESENT)),
            "complete": pieces.complete,
            "pinned": self._is_pinned(obj.object_id),
            "stored_bytes": obj.charged_bytes,
            "trust": rep.trust.word,
            "hash_of_hashes": rep.hash_of_hashes,
            "etag": rep.validators.etag,
            "last_modified": rep.validators.last_modified,
            "fetched": rep.response_time_s,
            "age_s": round(freshness.age_s, 3),
            "lifetime_s": None if lifetime_s == float("inf") else round(lifetime_s, 3),
            "fresh": freshness.fresh,
        }

    def _target(self, url: str) -> Target:
        return admitted(self._admit, url)


def admitted(admit: Callable[[str], Target | None], url: str) -> Target:
    """The target of a URL that was asked for; 400 where it is not on an allowed host."""
    target = admit(url) if url.lower().startswith(("http://", "https://")) else None
    if target is None:
        raise web.HTTPBadRequest(reason="url is not an http or https URL of an allowed host")
    return target


# -- bodies ---------------------------------------------------------------------------------------------------------


async def json_body(request: web.Request, *, allowed: tuple[str, ...]) -> dict[str, object]:
    """The members of a JSON body, none but ``allowed``; refuses what a page of another site could make a browser send.

    A browser asks before it sends this Content-Type across sites, and is refused then; Origin is looked at as well.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="send Content-Type: application/json")
    if _is_foreign(request):
        raise web.HTTPForbidden(reason="requests of other sites are refused")
    try:
        async with asyncio.timeout(_BODY_S):
            data = await _bounded(request)
    except TimeoutError as exc:
        raise web.HTTPRequestTimeout from exc
    try:
        body = strict_json(data)
    except ValueError as exc:
        raise web.HTTPBadRequest(reason="the body is not JSON that can be read in one way only") from exc
    if not isinstance(body, dict) or not set(body) <= set(allowed):
        members = ", ".join(allowed) if allowed else "none"
        raise web.HTTPBadRequest(reason=f"the body is not an object with these members: {members}")
    return body


def _is_foreign(request: web.Request) -> bool:
    origins = request.headers.getall(hdrs.ORIGIN, [])
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    host = request.headers.get(hdrs.HOST, "").lower()
    return any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins)


async def _bounded(request: web.Request) -> bytes:
    data = b""
    while chunk := await request.content.readany():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=len(data))
    return data


def text_member(body: dict[str, object], name: str) -> str:
    """A member of a body that must be a text with something in it; 400 where it is not."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise web.HTTPBadRequest(reason=f"{name} is missing or no text")
    return value


__all__ = ["MAX_BODY_BYTES", "VERIFY_PIECES", "AdminActions", "admitted", "json_body", "text_member"]
