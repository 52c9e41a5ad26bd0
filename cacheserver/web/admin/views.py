"""What the admin listener shows: health, status, overview, metrics.

Owns: these views. Must not change anything in the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from cacheserver.web.admin.json_bodies import json_reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """The routes that only read.

    ``book`` counts what was sent so far of the answers under way. ``render`` makes body and Content-Type of /metrics,
    in a thread; the other callables are called on the loop.
    """

    book: Callable[[], None]
    render: Callable[[str | None], tuple[bytes, str]]
    not_ready: Callable[[], list[str]]
    """Why the node cannot do its work, one short line each; none: it can."""
    node_status: Callable[[], dict[str, Any]]
    node_overview: Callable[[], dict[str, Any]]

    async def healthz(self, _request: web.Request) -> web.Response:
        """200 while the loop answers at all."""
        return json_reply(HTTPStatus.OK, {"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when the node can serve, 503 with the reasons otherwise."""
        reasons = self.not_ready()
        code = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return json_reply(code, {"ready": not reasons, "reasons": reasons})

    async def status(self, _request: web.Request) -> web.Response:
        """State of the node: version, connections, fills, banned sources, pins, services, certificate, volumes."""
        return json_reply(HTTPStatus.OK, self.node_status())

    async def overview(self, _request: web.Request) -> web.Response:
        """The data of the status page: status, traffic, fills, refusals."""
        self.book()
        return json_reply(HTTPStatus.OK, self.node_overview())

    async def metrics(self, request: web.Request) -> web.Response:
        """All metrics, as Prometheus reads them."""
        self.book()
        # Off the loop: 1,000 series take about 14 ms.
        body, content_type = await asyncio.to_thread(self.render, request.headers.get(hdrs.ACCEPT))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
