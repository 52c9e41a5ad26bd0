"""One client connection: a guarded connection with the fast lane, quiet errors and the wire that bodies go out by.

Owns: what aiohttp's server leaves open to a content client: answers past it, half-closed clients, no traceback for
malformed input. Must not know of caching.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from cacheserver.core.errors import HeadTooLong, MalformedRequest, MethodUnknown, RequestError, VersionUnknown
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.request.client import PLAIN, TLS, Client
from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.core.request.subnets import Subnets
from cacheserver.web.aiohttp_adapter import SentResponse, tolerate_targets
from cacheserver.web.connection_shares import ConnectionShares
from cacheserver.web.guarded_connection import GuardedConnection
from cacheserver.web.heads import Head, text_lines
from cacheserver.web.lane.hot_table import HEAD_END
from cacheserver.web.lane.lane import FastLane
from cacheserver.web.lane.shared import LaneShared
from cacheserver.web.options import ServerOptions
from cacheserver.web.sending.turns import resolve
from cacheserver.web.sending.wire import Wire

_ODD_METHOD = re.compile(r"""Invalid method encountered:\s+b['"][A-Za-z][A-Za-z0-9_-]* \S+ HTTP/\d\.\d""")
"""What the parser says of a request line that is right but for a method that it does not know."""

_ODD_VERSION = re.compile(r"""Invalid HTTP version:\s+b['"][A-Z]+ \S+ HTTP/\d""")


def refused_head(why: str, *, too_long: bool) -> RequestError:
    """The error for a head that the parser refuses, which says ``why``."""
    if too_long:
        return HeadTooLong()
    if _ODD_VERSION.search(why):
        return VersionUnknown()
    return MethodUnknown() if _ODD_METHOD.search(why) else MalformedRequest("malformed request")


class ClientConnection(GuardedConnection):
    """A guarded connection with the fast lane and the wire."""

    __slots__ = (
        "_drained_waiter", "_half_closed", "_lane_idle", "_listener", "_secure", "client", "lane", "wire",
    )  # fmt: skip

    def __init__(self, listener: Listener, manager: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        timeout_s = listener.options.head_timeout_s
        super().__init__(manager, shares=listener.shares, head_timeout_s=timeout_s, loop=loop, **kwargs)
        self._listener = listener
        self._drained_waiter: asyncio.Future[None] | None = None
        self._lane_idle: asyncio.Future[None] | None = None
        self._half_closed = False
        self._secure = False
        self.client = Client()
        self.lane: FastLane | None = None
        self.wire: Wire | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        if self.transport is None:
            return
        self._listener.connections.add(self)
        self._secure = transport.get_extra_info("sslcontext") is not None
        # A limit of 0 would have a TLS transport pause its protocol also when it holds nothing.
        transport.set_write_buffer_limits(1 if self._secure else 0)
        options = self._listener.options
        self.wire = Wire(
            transport,
            self.drained,
            turns=self._listener.lanes.turns,
            turn_bytes=self._listener.lanes.turn_bytes,
            min_rate_bps=options.min_send_rate_bps,
            executor=self._listener.lanes.executor,
        )
        self.lane = FastLane(self._listener.lanes, transport, done=self._lane_done)
        self.identify()

    def identify(self) -> None:
        """Find out what is known of the client, which a reload may change."""
        address = self.peername[0] if isinstance(self.peername, tuple) else ""
        self.client = Client.of(address, TLS if self._secure else PLAIN, self._listener.subnets)
        if self.lane is not None:
            self.lane.identify(self.client)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give everything back."""
        self._listener.connections.discard(self)
        resolve(self._drained_waiter)
        if self.lane is not None:
            self.lane.close()
            resolve(self._lane_idle)
        if self.wire is not None:
            self.wire.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """To the fast lane when nothing else is under way, else to aiohttp, whose head has a deadline from here on."""
        lane = self.lane
        if lane is not None and data:
            if not (lane.busy or self.is_idle):
                lane.skip()
            elif lane.take(data):
                return
        super().data_received(data)

    def _lane_done(self, pending: bytes) -> None:
        """The lane has sent an answer; ``pending`` came meanwhile."""
        self.postpone_idle_end()
        if self._lane_idle is not None:
            resolve(self._lane_idle)
        if pending and (not self._half_closed or HEAD_END in pending):
            self.data_received(pending)
        elif self._half_closed and self.transport is not None:
            self.transport.close()  # what may have come of another head stays without its end

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has closed its sending side still gets the answers it has asked for; not through TLS."""
        self._half_closed = True
        answering = self.is_answering
        if answering and not self.is_sending and self.spent:
            self.end_after_answer()
        return not self._secure and (self.is_sending or answering or self.has_queued)

    @property
    def spent(self) -> bool:
        """Whether the client can ask nothing more: it has closed its sending side, and all is answered."""
        return self._half_closed and not self.has_unread

    @property
    def is_sending(self) -> bool:
        """Whether the lane is answering: the connection is not idle then."""
        return self.lane is not None and self.lane.busy

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let a running answer end, then close."""
        if self.is_sending:
            self._lane_idle = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._lane_idle,), timeout=timeout)
        await super().shutdown(timeout)

    def resume_writing(self) -> None:
        """The buffer is empty."""
        super().resume_writing()
        resolve(self._drained_waiter)
        if self.lane is not None:
            self.lane.resumed()

    async def drained(self) -> None:
        """Until nothing is buffered in the transport; returns at once when the client is gone."""
        if self.transport is None or not self.transport.get_write_buffer_size():
            return
        self._drained_waiter = asyncio.get_running_loop().create_future()
        try:
            await self._drained_waiter
        finally:
            self._drained_waiter = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A head that the parser refuses or a fault of our own: one line of text, one of log, never a traceback."""
        error = refused_head(message or "", too_long=self.head_is_too_long) if status == 400 else None
        status = 500 if error is None else error.own_status
        self._listener.on_error(request, error, exc)
        text = b"internal error\n" if error is None else f"{error}\n".encode()
        if self.transport is not None and not request.writer.output_size:
            head = Head(status, text_lines(format_http_date(time.time())), len(text))
            self.transport.write(head.encode(close=True, http_10=False) + text)
        return SentResponse(status=status, keep_alive=False)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Faults are logged by ``handle_error``, in one line."""


class Listener:
    """Makes connections for one listening socket set and keeps count of them."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        options: ServerOptions,
        lanes: LaneShared,
        max_connections: int,
        on_error: Callable[[web.BaseRequest, RequestError | None, BaseException | None], None],
        on_limit: Callable[[str, str], None],
        subnets: Subnets,
        shared: SharedNetworks,
    ) -> None:
        """``on_limit`` is called as ``ConnectionShares`` says."""
        self.options = options
        self.shares = ConnectionShares(
            most=max_connections,
            per_client=options.connections_per_client,
            shared=shared,
            on_limit=on_limit,
            frees=False,
        )
        self.lanes = lanes
        self.on_error = on_error
        self.subnets = subnets
        self._max_head_bytes = options.max_head.bytes
        self.connections: set[ClientConnection] = set()
        self._server = web.Server(handler, handler_cancellation=True)
        tolerate_targets(self._server)

    def __call__(self) -> ClientConnection:
        """Protocol factory for ``loop.create_server``."""
        return ClientConnection(
            self,
            self._server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self.options.idle_timeout_s,
            max_head_bytes=self._max_head_bytes,
            max_line_size=self._max_head_bytes,
            max_field_size=self._max_head_bytes,
            lingering_time=0,
            access_log=None,
        )

    def reconfigure(self, options: ServerOptions, subnets: Subnets, shared: SharedNetworks) -> None:
        """Use changed settings for open connections too; the lane forgets what it has learned."""
        self.options, self.subnets = options, subnets
        self.shares.reconfigure(per_client=options.connections_per_client, shared=shared)
        self.lanes.reconfigure(enabled=options.fast_lane)
        for connection in self.connections:
            connection.identify()

    def drain(self) -> None:
        """Have every connection end with the answer that is under way."""
        self.lanes.reconfigure(enabled=False)

    def sweep(self, window_s: float) -> None:
        """Cut fast-lane clients that took less than the lowest rate since the last sweep, ``window_s`` ago."""
        for connection in list(self.connections):
            lane = connection.lane
            slow = lane is not None and lane.swept_slow(window_s, min_rate_bps=self.options.min_send_rate_bps)
            if slow and connection.transport is not None:
                connection.transport.abort()

    @property
    def connection_count(self) -> int:
        """Open client connections, those in a TLS handshake too."""
        return len(self.shares)

    async def shutdown(self, timeout_s: float) -> None:
        """Close idle connections, let running answers end, then cut what is left after ``timeout_s``."""
        self._server.pre_shutdown()
        ending = asyncio.create_task(self._server.shutdown(timeout_s))
        # aiohttp waits for as long once more after it has cancelled a handler.
        await asyncio.wait((ending,), timeout=timeout_s)
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await ending
