"""A trust service on the loopback interface, over TLS, and what the tests of anchors share.

Owns the wiring: what the service answers is each test's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from cacheserver.trust.anchors import Anchors, build_anchors
from cacheserver.trust.options import TrustOptions

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class HandClock:
    """A clock that only tests move."""

    now_s: float = 1000.0

    def wall_s(self) -> float:
        """The same hand."""
        return self.now_s

    def monotonic_s(self) -> float:
        """The same hand."""
        return self.now_s


@dataclass(slots=True)
class Service:
    """A running service: where it is, what it answers next, and what it was asked."""

    url: str
    answer: Answer
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, raw path and query, body."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """What a slow answer waits for; set when the service stops."""


def says(body: str | bytes, *, status: int = 200, content_type: str = "application/json") -> Answer:
    """An answer of that body."""
    data = body.encode() if isinstance(body, str) else body

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=data, status=status, content_type=content_type)

    return answer


@asynccontextmanager
async def running(context: ssl.SSLContext, answer: Answer) -> AsyncIterator[Service]:
    """The service on a free port of localhost."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        service.asked.append((request.method, request.raw_path, await request.read()))
        return await service.answer(request)

    runner = web.ServerRunner(web.Server(handle), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    service = Service(url=f"https://localhost:{runner.addresses[0][1]}", answer=answer)
    try:
        yield service
    finally:
        service.release.set()
        await runner.cleanup()


@asynccontextmanager
async def anchors(options: TrustOptions, clock: HandClock | None = None) -> AsyncIterator[tuple[Anchors, Counter[str]]]:
    """The anchors of ``options`` and how often each ``anchor:result`` was counted."""
    counts: Counter[str] = Counter()

    def count(anchor: str, result: str) -> None:
        counts[f"{anchor}:{result}"] += 1

    made = build_anchors(options, clock=clock or HandClock(), count=count, user_agent="test/1", resolver=None)
    try:
        yield made, counts
    finally:
        await made.close()
