"""Asking a source over aiohttp: one session, own deadlines, every redirect hop admitted.

Owns: connections to sources. Must not interpret a body or a cache rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from yarl import URL

from cacheserver.core.cache.redirects import REDIRECTS
from cacheserver.core.cache.sources import NODE
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import (
    BadAnswer,
    CacheserverError,
    OriginStatus,
    TooManyRedirects,
    TruncatedBody,
    UpstreamTimeout,
)
from cacheserver.core.http.fields import Fields
from cacheserver.core.turns.feed import Traffic, is_stalled
from cacheserver.outgoing.aiohttp_parts import disable_retries, received_bytes
from cacheserver.outgoing.faults import translated
from cacheserver.outgoing.resolver import Resolver
from cacheserver.outgoing.session import client_context, open_session
from cacheserver.ports import Clock
from cacheserver.upstream.options import UpstreamOptions

Redirect = Callable[[UpstreamRequest, str], UpstreamRequest | None]
"""The request for a redirect's target, or None when the client may not go there."""
Count = Callable[[str, str, str], object]
"""Called after each request with the service's name, the source's class and the result."""

_RATE_WINDOW_S = 10.0
_STALLS = 3
"""Times of silence in a row that a body may be kept waiting by the others on a thin line."""
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Answer:
    """One open answer; see ``ports.UpstreamAnswer``."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        source: str,
        asked: str,
        source_class: str,
        secure: bool,
        times_s: tuple[float, float],
        options: UpstreamOptions,
        traffic: Traffic,
    ) -> None:
        """``traffic``: of all bodies of the host that was asked."""
        self.status = response.status
        self.fields = Fields.from_raw(response.raw_headers)
        self.source = source
        self.asked = asked
        self.source_class = source_class
        self.secure = secure
        self.request_time_s, self.response_time_s = times_s
        self._response = response
        self._options = options
        self._traffic = traffic
        traffic.bodies += 1
        self._closed = False
        self._window_start_s = 0.0
        self._window_bytes = 0

    async def read(self) -> bytes:
        """The next body bytes; see ``ports.UpstreamAnswer.read``."""
        try:
            data = await self._next()
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:  # RuntimeError: its reader was closed
            data = received_bytes(self._response.content)
            if not data:
                raise TruncatedBody("source broke off inside the body", source=self.source) from exc
        self._check_rate(len(data))
        return data

    async def _next(self) -> bytes:
        """What comes next; UpstreamTimeout where this body is silent, and not for want of room on the line."""
        since_s = asyncio.get_running_loop().time()
        for stall in range(1, _STALLS + 1):
            try:
                async with asyncio.timeout(self._options.stall_timeout_s):
                    return await self._response.content.readany()
            except TimeoutError as exc:
                now_s, least_bps = asyncio.get_running_loop().time(), self._options.min_rate_bps
                stalled = is_stalled(0, self._traffic, since_s=since_s, now_s=now_s, min_rate_bps=least_bps)
                if stalled or stall == _STALLS:
                    raise UpstreamTimeout("source went silent inside the body", source=self.source) from exc
        raise AssertionError("the last silence raises")

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole body. Raises BadAnswer when it is longer than ``limit_bytes``, and what ``read`` raises."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limit_bytes:
                raise BadAnswer("the body is longer than it may be", source=self.source)
        return bytes(body)

    def _check_rate(self, got_bytes: int) -> None:
        now = asyncio.get_running_loop().time()
        if not self._window_start_s:
            self._window_start_s = now
        self._window_bytes += got_bytes
        self._traffic.took(got_bytes, now)
        passed_s, least_bps = now - self._window_start_s, self._options.min_rate_bps
        if passed_s < _RATE_WINDOW_S:
            return
        stalled = is_stalled(
            self._window_bytes, self._traffic, since_s=self._window_start_s, now_s=now, min_rate_bps=least_bps
        )
        if got_bytes and stalled:
            raise UpstreamTimeout("source sends too slowly", source=self.source)
        self._window_start_s, self._window_bytes = now, 0

    def close(self) -> None:
        """Give the connection back when the body was read, else cut it."""
        self._response.close()
        self._traffic.bodies -= not self._closed
        self._closed = True


class UpstreamClient:
    """Opens answers; see ``ports.Upstream``."""

    def __init__(
        self,
        *,
        options: UpstreamOptions,
        resolver: Resolver,
        redirect: Redirect,
        clock: Clock,
        count: Count,
        user_agent: str,
    ) -> None:
        self._options = options
        self._resolver = resolver
        self._redirect = redirect
        self._report = count
        self._clock = clock
        self._user_agent = user_agent
        self._tls = client_context(options.ca_file, key="upstream.ca_file")
        self._session: aiohttp.ClientSession | None = None
        self._traffic: dict[str, Traffic] = {}

    async def open(self, request: UpstreamRequest) -> Answer:
        """Send ``request`` and return once its head is there; see ``ports.Upstream.open``."""
        asked, secure = request.place.name, request.place.kind != NODE
        for _hop in range(self._options.redirects + 1):
            secure = secure and request.place.scheme == "https"
            try:
                answer = await self._ask(request, asked, secure)
            except CacheserverError as exc:
                self._count(request, exc.code)
                raise
            if answer.status not in REDIRECTS:
                self._count(request, _result(answer.status))
                return answer
            location = answer.fields.first("Location")
            target = self._redirect(request, location) if location else None
            if target is None:
                self._count(request, OriginStatus.code)
                return answer
            answer.close()
            request = target
        self._count(request, OriginStatus.code)
        raise TooManyRedirects("source redirects too often", source=request.place.name)

    def _count(self, request: UpstreamRequest, result: str) -> None:
        self._report(request.service.name, request.place.kind, result)

    async def _ask(self, request: UpstreamRequest, asked: str, secure: bool) -> Answer:
        self._resolver.vet_literal(request.place.host, request.place.port)
        headers = [("User-Agent", self._user_agent)] if "User-Agent" not in request.fields else []
        headers.extend(request.fields)
        sent_s = self._clock.wall_s()
        budget_s = self._options.connect_timeout_s + self._options.head_timeout_s
        async with translated(request.place.name, within_s=budget_s):
            response = await self._open_session().request(
                request.method,
                URL(request.place.url, encoded=True),
                headers=headers,
                skip_auto_headers=_SKIPPED,
                allow_redirects=False,
            )
        return Answer(
            response,
            source=request.place.name,
            asked=asked,
            source_class=request.place.kind,
            secure=secure,
            times_s=(sent_s, self._clock.wall_s()),
            options=self._options,
            traffic=self._traffic_of(asked),
        )

    def _traffic_of(self, source: str) -> Traffic:
        """Of the source that is asked; those without a body on its way are forgotten."""
        if source not in self._traffic:
            self._traffic = {name: traffic for name, traffic in self._traffic.items() if traffic.bodies}
            self._traffic[source] = Traffic(keep_s=2 * _STALLS * self._options.stall_timeout_s)
        return self._traffic[source]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(
                resolver=self._resolver,
                tls=self._tls,
                limit_per_host=self._options.connections_per_host,
                idle_s=self._options.idle_s,
                connect_timeout_s=self._options.connect_timeout_s,
            )
            disable_retries(self._session)  # the fill counts tries, and pauses between them
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _result(status: int) -> str:
    if status in (200, 206):
        return "ok"
    return "not_modified" if status == 304 else OriginStatus.code
