"""What an operator can do to a running node: scrub, verify, purge, lift bans, look at one object.

Owns: what these routes take and answer, one log event for each act. Never logs a query string: tokens live there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from cacheserver.core.cache.freshness import assess
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.cache_control import CacheControl
from cacheserver.core.piece_map import ABSENT, PRESENT
from cacheserver.core.request.target import Target
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.purging import purge
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.ports import Clock
from cacheserver.store.checking import Verdict
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.web.admin.json_bodies import admitted, json_body, json_reply, named_object, text_member

VERIFY_PIECES: Final = 64
"""Most pieces that one request verifies."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminActions:
    """The acting half of the admin API; ``admit`` gives the target of a URL on an allowed host, None for others."""

    store: Store
    scrubber: Scrubber
    sources: SourceHealth
    admit: Callable[[str], Target | None]
    clock: Clock
    is_pinned: Callable[[str], bool] = lambda _object_id: False

    # -- scrub --------------------------------------------------------------------------------------------------

    async def scrub_progress(self, _request: web.Request) -> web.Response:
        """How far the passes are, and what they have found."""
        return json_reply(200, self.scrubber.progress())

    async def scrub(self, request: web.Request) -> web.Response:
        """Begin a pass over everything; 202, also while one that was asked for still runs."""
        await json_body(request, allowed=())
        started = self.scrubber.start_now()
        event(_log, "admin_scrub", client=request.remote, started=started)
        return json_reply(202, {"started": started} | self.scrubber.progress())

    # -- sources ------------------------------------------------------------------------------------------------

    async def lift(self, request: web.Request) -> web.Response:
        """End the ban of one source; 404 where there is none."""
        source = text_member(await json_body(request, allowed=("source",)), "source")
        banned = source in {ban.source for ban in self.sources.bans(self.clock.monotonic_s())}
        if banned:
            self.sources.lift(source)
        event(_log, "admin_ban_lift", client=request.remote, source=source, lifted=banned)
        if not banned:
            return json_reply(404, {"error": "this source is not banned"})
        return json_reply(200, {"lifted": source})

    # -- objects ------------------------------------------------------------------------------------------------

    async def purge(self, request: web.Request) -> web.Response:
        """Remove what is stored for a URL, its variants included, or one object by its id; 404 where nothing is."""
        object_id = await named_object(request, self.admit)
        done = await purge(self.store, object_id)
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
        target = admitted(self.admit, urls[0])
        found = await self.store.find(target.object_id)
        event(_log, "admin_object", client=request.remote, object_id=target.object_id, found=found is not None)
        if isinstance(found, VaryMarker):
            return json_reply(200, {"object_id": found.object_id, "vary": list(found.names)})
        if found is None or found.representation.key != target.key:
            return json_reply(404, {"error": "nothing is stored there"})
        return json_reply(200, self._facts(found, target))

    async def verify(self, request: web.Request) -> web.Response:
        """Read pieces of one object again, at most 64 from ``first_piece`` on; bad ones go out of service."""
        body = await json_body(request, allowed=("url", "first_piece"))
        target = admitted(self.admit, text_member(body, "url"))
        first = body.get("first_piece", 0)
        if not isinstance(first, int) or isinstance(first, bool) or first < 0:
            raise web.HTTPBadRequest(reason="first_piece is not a whole number")
        found = await self.store.find(target.object_id)
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
                verdict = await self.store.checker.recheck(obj, piece, self.store.executor)
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
        freshness = assess(rep, target.service, target.path_and_query, CacheControl(), self.clock.wall_s())
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
            "pinned": self.is_pinned(obj.object_id),
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
