"""Asking a source over aiohttp: one session, own deadlines, every redirect hop admitted.

Owns: connections to sources, and a second try where a kept one proved dead. Must not interpret a body or a cache rule.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import aiohttp
from yarl import URL

from cacheserver.concurrency.awake import awake_s, awake_timeout
from cacheserver.core.cache.redirects import REDIRECTS, Hop, bounded
from cacheserver.core.cache.sources import NODE, Source
from cacheserver.core.cache.stand_in import is_stand_in
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import (
    BadAnswer,
    CacheserverError,
    OriginStatus,
    PageInstead,
    TooManyRedirects,
    TruncatedBody,
    UpstreamTimeout,
)
from cacheserver.core.http.fields import Fields
from cacheserver.core.turns.feed import Traffic, is_stalled
from cacheserver.outgoing.aiohttp_parts import Connected, disable_retries, drop_idle, end_reuse, received_bytes
from cacheserver.outgoing.faults import translated
from cacheserver.outgoing.resolver import Resolver
from cacheserver.outgoing.session import client_context, open_session
from cacheserver.ports import Clock, Take
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.upstream.taken_body import TakenBody

T = TypeVar("T")
Redirect = Callable[[UpstreamRequest, str], UpstreamRequest | None]
"""The request for a redirect's target, or None when the client may not go there."""
Count = Callable[[str, str, str], object]
"""Called after each request with the service's name, the source's class and the result."""

_RATE_WINDOW_S = 10.0
_KEPT_TRIES = 3
"""Most connections on which one request is sent, all but the last of them kept ones that were dead."""
_IDLE_TOO_LONG = 408
"""Sent by some servers as they close a connection that was idle: it does not speak of the request that crosses it."""
_REPEATABLE = frozenset({"GET", "HEAD"})
"""Methods that may be sent twice (RFC 9110 §9.2.2); the node knows no others, and no body."""
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
        self._takes = False
        """Whether somebody would rather receive the body."""
        self._taken: TakenBody | None = None
        self._closed = False
        self._window_start_s = 0.0
        self._window_bytes = 0

    async def read(self) -> bytes:
        """The next body bytes; see ``ports.UpstreamAnswer.read``."""
        taken = self._taken
        if taken is not None and taken.left_bytes:
            with self._broken_off():
                data = await self._in_time(taken.read)
            self._check_rate(len(data))
            return data
        try:
            data = await self._in_time(self._response.content.readany)
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:  # RuntimeError: its reader was closed
            data = received_bytes(self._response.content)
            if not data:
                raise TruncatedBody("source broke off inside the body", source=self.source) from exc
        if self._takes and self._taken is None:  # nothing waits here at this moment
            self._taken = TakenBody.of(self._response)
        self._check_rate(len(data))
        return data

    async def receive(self, take: Take, most: int) -> int | None:
        """See ``ports.UpstreamAnswer.receive``."""
        taken = self._taken
        if taken is None or not taken.left_bytes:
            self._takes = self._options.threads_receive
            return None
        most, count = min(most, taken.left_bytes), 0
        with self._broken_off():
            while not count:
                if taken.is_drained:
                    await self._in_time(partial(taken.ready, most))
                count = await take(taken.sock, most)
                taken.is_drained = count < most
        taken.took(count)
        self._check_rate(count)
        return count

    @contextmanager
    def _broken_off(self) -> Iterator[None]:
        """Raise TruncatedBody where the connection ends."""
        try:
            yield
        except (EOFError, OSError) as exc:
            raise TruncatedBody("source broke off inside the body", source=self.source) from exc

    async def _in_time(self, come: Callable[[], Awaitable[T]]) -> T:
        """What comes next; UpstreamTimeout where this body is silent, and not for want of room on the line."""
        since_s = awake_s()
        for stall in range(1, _STALLS + 1):
            try:
                async with awake_timeout(self._options.stall_timeout_s):
                    return await come()
            except TimeoutError as exc:
                now_s, least_bps = awake_s(), self._options.min_rate_bps
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
        now = awake_s()
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
        if self._taken is not None:
            self._taken.close()
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

    async def open(self, request: UpstreamRequest, *, within_s: float = math.inf) -> Answer:
        """Send ``request`` and return once its head is there; see ``ports.Upstream.open``.

        ``within_s`` shortens the time for each hop's head.
        """
        first, asked, secure = request, request.place.name, request.place.kind != NODE
        hops: list[Hop] = []
        for _hop in range(self._options.redirects + 1):
            secure = secure and request.place.scheme == "https"
            try:
                answer = await self._ask(request, asked, secure, within_s)
            except CacheserverError as exc:
                self._count(request, exc.code)
                raise
            if answer.status not in REDIRECTS:
                self._count(request, _result(first, answer))
                answer.fields = bounded(answer.fields, hops, request.service, answer.response_time_s)
                return answer
            location = answer.fields.first("Location")
            target = self._redirect(request, location) if location else None
            if target is None:
                self._count(request, OriginStatus.code)
                return answer
            answer.close()
            hops.append(Hop(answer.status, answer.fields, answer.response_time_s))
            request = target
        self._count(request, OriginStatus.code)
        raise TooManyRedirects("source redirects too often", source=request.place.name)

    def _count(self, request: UpstreamRequest, result: str) -> None:
        self._report(request.service.name, request.place.kind, result)

    async def _ask(self, request: UpstreamRequest, asked: str, secure: bool, within_s: float) -> Answer:
        place = request.place
        self._resolver.vet_literal(place.host, place.port)
        sent_s, connected = self._clock.wall_s(), Connected()
        within_s = min(within_s, self._options.connect_timeout_s + self._options.head_timeout_s)
        try:
            async with translated(place.name, within_s=within_s):
                response = await self._requested(request, connected)
        except UpstreamTimeout:
            if connected.reused:
                self._drop_idle(request)
            raise
        return Answer(
            response,
            source=place.name,
            asked=asked,
            source_class=place.kind,
            secure=secure,
            times_s=(sent_s, self._clock.wall_s()),
            options=self._options,
            traffic=self._traffic_of(asked),
        )

    async def _requested(self, request: UpstreamRequest, connected: Connected) -> aiohttp.ClientResponse:
        """The answer's head; where a kept connection breaks before it, that of a connection made anew."""
        headers = [("User-Agent", self._user_agent)] if "User-Agent" not in request.fields else []
        headers.extend(request.fields)
        for tries_left in reversed(range(_KEPT_TRIES)):
            connected.reused = False
            try:
                response = await self._open_session().request(
                    request.method,
                    _url(request.place),
                    headers=headers,
                    skip_auto_headers=_SKIPPED,
                    allow_redirects=False,
                    trace_request_ctx=connected,
                )
                if response.status != _IDLE_TOO_LONG or not self._repeats(request, connected, tries_left):
                    return response
                response.close()
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if not self._repeats(request, connected, tries_left):
                    raise
        raise AssertionError("the last try returns or raises")

    def _repeats(self, request: UpstreamRequest, connected: Connected, tries_left: int) -> bool:
        """Whether a request that failed is sent again: its connection was a kept one, and so are the idle ones."""
        if not (connected.reused and tries_left and request.method in _REPEATABLE):
            return False
        self._drop_idle(request)
        return True

    def _drop_idle(self, request: UpstreamRequest) -> None:
        """Keep none of the connections that are as old as one that proved dead."""
        drop_idle(self._open_session(), _url(request.place))

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

    def reconnect(self) -> None:
        """Send the next request to each host on a new connection: the address policy may have changed (I9)."""
        if self._session is not None:
            end_reuse(self._session)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _url(place: Source) -> URL:
    """Where aiohttp sends a request. Path and query go as one, or yarl would leave out a question mark at the end."""
    host = f"[{place.host}]" if ":" in place.host and not place.host.startswith("[") else place.host
    return URL.build(scheme=place.scheme, host=host, port=place.port, path=place.path_and_query, encoded=True)


def _result(request: UpstreamRequest, answer: Answer) -> str:
    """The word for an answer in the metrics."""
    if is_stand_in(request.service, request.place.path_and_query, answer.status, answer.fields):
        return PageInstead.code
    if answer.status in (200, 206):
        return "ok"
    return "not_modified" if answer.status == 304 else OriginStatus.code
