"""Pins over the admin API: pin, unpin, list.

Owns: these routes, their bodies, one log event for each act. Never logs a query string: tokens live there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from cacheserver.core.errors import PinRefused, StoreError
from cacheserver.core.request.target import Target
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.pinning import Pinning
from cacheserver.web.admin.json_bodies import admitted, json_body, json_reply, named_object, text_member

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPins:
    """The routes of pinned content; ``admit`` gives the target of a URL on an allowed host, None for others."""

    pinning: Pinning
    admit: Callable[[str], Target | None]

    async def pins(self, _request: web.Request) -> web.Response:
        """Every pin and how far it is."""
        return json_reply(200, {"pins": self.pinning.pins()})

    async def pin(self, request: web.Request) -> web.Response:
        """Pin a URL; 409 with the reason where that cannot be, 503 where it cannot be written down."""
        url = text_member(await json_body(request, allowed=("url",)), "url")
        target = admitted(self.admit, url)
        try:
            pin = await self.pinning.pin(url, target)
        except (PinRefused, StoreError) as exc:
            who, why = request.remote, str(exc)
            event(_log, "pin_refused", severity=logging.WARNING, client=who, object_id=target.object_id, reason=why)
            return json_reply(409 if isinstance(exc, PinRefused) else 503, {"error": str(exc)})
        path = target.path_and_query.partition("?")[0]
        facts = {"object_id": target.object_id, "origin": target.origin, "path": path, "state": pin["state"]}
        event(_log, "pinned", client=request.remote, **facts)
        return json_reply(200, pin)

    async def unpin(self, request: web.Request) -> web.Response:
        """End the pin of a URL or an object's id; 404 where there is none, 503 where it cannot be written down."""
        object_id = await named_object(request, self.admit)
        try:
            ended = await self.pinning.unpin(object_id)
        except StoreError as exc:
            return json_reply(503, {"error": str(exc)})
        if not ended:
            return json_reply(404, {"error": "this is not pinned"})
        event(_log, "unpinned", client=request.remote, object_id=object_id)
        return json_reply(200, {"object_id": object_id, "unpinned": True})
