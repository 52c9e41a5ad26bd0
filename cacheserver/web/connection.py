"""One client connection: aiohttp's protocol with deadlines, a cap, quiet errors and the wire that bodies go out by.

Owns: what aiohttp's server leaves open: a deadline for the head, one for idleness, no traceback for malformed input.
Must not know of caching.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cacheserver.core.client import PLAIN, TLS, Client
from cacheserver.core.http_date import format_http_date
from cacheserver.web.fast_lane import FastLane, LaneShared
from cacheserver.web.heads import Head, text_lines
from cacheserver.web.hot_table import HEAD_END, shape_of
from cacheserver.web.options import ServerOptions
from cacheserver.web.wire import Wire


class Elsewhere(Protocol):
    """Other processes of the node that may answer warm hits (``workers.crew``)."""

    @property
    def has_room(self) -> bool:
        """Whether one of them has clearly fewer connections than this process."""
        ...

    def give(self, shape: bytes, fd: int, first: bytes) -> bool:
        """Give a connection to it, with its unanswered bytes; False: it cannot answer this head shape."""
        ...


class SentResponse(web.StreamResponse):
    """Stands for an answer that is on the wire already; aiohttp is told only whether the connection goes on."""

    def __init__(self, *, status: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""

    @property
    def prepared(self) -> bool:
        """The head is out."""
        return True


class ClientConnection(RequestHandler):
    """aiohttp's request handler with the node's deadlines."""

    __slots__ = (
        "_drain_waiter", "_first", "_half_closed", "_head_timer", "_lane_idle", "_listener", "client", "lane", "wire",
    )  # fmt: skip

    def __init__(
        self, listener: Listener, manager: Any, first: bytes, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._listener = listener
        self._first = first
        """Bytes that another process has read from this connection, and could not answer."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._lane_idle: asyncio.Future[None] | None = None
        self._half_closed = False
        self.client = Client()
        self.lane: FastLane | None = None
        self.wire: Wire | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or close it when there are too many."""
        transport = cast(asyncio.Transport, transport)
        if not self._listener.admit(self):
            self._manager = None
            transport.abort()
            return
        transport.set_write_buffer_limits(0)
        options = self._listener.options
        super().connection_made(transport)
        self.wire = Wire(
            self,
            turns=self._listener.lanes.turns,
            turn_bytes=self._listener.lanes.turn_bytes,
            min_rate_bps=options.min_send_rate_bps,
            executor=self._listener.lanes.executor,
        )
        plain = self.ssl_context is None
        address = self.peername[0] if isinstance(self.peername, tuple) else ""
        self.client = Client(address, PLAIN if plain else TLS, self._listener.subnet_of(address))
        if plain:
            self.lane = FastLane(self._listener.lanes, transport, client=self.client, done=self._lane_done)
        if self._first:
            self.data_received(self._first)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give everything back."""
        self._listener.forget(self)
        self._stop_head_timer()
        self._wake_drained()
        if self.lane is not None:
            self.lane.close()
            self._lane_is_idle()
        if self.wire is not None:
            self.wire.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """To the fast lane when nothing else is under way, else to aiohttp, whose head has a deadline from here on."""
        lane = self.lane
        if lane is not None:
            if lane.busy or (
                self._head_timer is None
                and not self._answering
                and not self._close
                and not self._force_close
                and not self._upgraded
            ):
                if not lane.busy and data is not self._first and self._moved(data):
                    return
                if lane.take(data):
                    return
            else:
                lane.last_head = b""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_head_timer()
        elif self._head_timer is None and not self._answering:
            deadline_s = self._listener.options.head_timeout_s
            self._head_timer = self._loop.call_later(deadline_s, self.force_close)

    @property
    def _answering(self) -> bool:
        """Whether aiohttp has a request of this connection in hand, from its last byte to the end of its answer."""
        idle = self._waiter is not None and not self._waiter.done() and not self._messages
        return self._request_count > 0 and not idle

    def _moved(self, data: bytes) -> bool:
        """Whether another process, which has fewer clients, answers this warm hit and goes on with the connection."""
        elsewhere, end = self._listener.elsewhere, data.find(HEAD_END) + len(HEAD_END)
        if elsewhere is None or not elsewhere.has_room or end < len(HEAD_END) or self._half_closed:
            return False
        assert self.transport is not None
        self.transport.pause_reading()
        fd = self.transport.get_extra_info("socket").fileno()
        if elsewhere.give(shape_of(data[:end])[0], fd, data):
            self._listener.forget(self)
            self.transport.abort()
            return True
        self.transport.resume_reading()
        return False

    def _lane_done(self, pending: bytes) -> None:
        """The lane has sent an answer; ``pending`` came meanwhile."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._lane_idle is not None:
            self._lane_is_idle()
        if pending:
            self.data_received(pending)
        elif self._half_closed and self.transport is not None:
            self.transport.close()

    def _lane_is_idle(self) -> None:
        if self._lane_idle is not None and not self._lane_idle.done():
            self._lane_idle.set_result(None)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has closed its sending side still gets the answers it has asked for."""
        lane_busy = self.lane is not None and self.lane.busy
        self._half_closed = True
        if self.ssl_context is not None:
            return False  # TLS has no half-closed connections here
        if lane_busy or self._answering:
            if not lane_busy:
                self._close = True
            return True
        return False

    def _process_keepalive(self) -> None:
        """Idle connections end here; one whose lane is sending is not idle."""
        if self.lane is not None and self.lane.busy:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let a running answer end, then close."""
        if self.lane is not None and self.lane.busy:
            self._lane_idle = self._loop.create_future()
            await asyncio.wait((self._lane_idle,), timeout=timeout)
        await super().shutdown(timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def resume_writing(self) -> None:
        """The buffer is empty."""
        super().resume_writing()
        self._wake_drained()

    def _wake_drained(self) -> None:
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    async def drained(self) -> None:
        """Until nothing is buffered in the transport; returns at once when the client is gone."""
        if self.transport is None or not self.transport.get_write_buffer_size():
            return
        self._drain_waiter = self._loop.create_future()
        try:
            await self._drain_waiter
        finally:
            self._drain_waiter = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A malformed head (400) or a fault of our own (500): one line of text, one of log, never a traceback."""
        self._listener.on_error(request, status, exc)
        text = b"malformed request\n" if status == 400 else b"internal error\n"
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
        max_head_bytes: int,
        on_error: Callable[[web.BaseRequest, int, BaseException | None], None],
        on_refused: Callable[[], None],
        subnet_of: Callable[[str], str],
    ) -> None:
        """``on_refused`` hears of each connection too many; ``subnet_of`` says in which group an address is counted."""
        self.options = options
        self.lanes = lanes
        self.on_error = on_error
        self.elsewhere: Elsewhere | None = None
        """Set when the node has more than one process."""
        self.subnet_of = subnet_of
        self.on_refused = on_refused
        self._adopting: set[asyncio.Task[None]] = set()
        self._arriving: set[ClientConnection] = set()
        self._max_connections = max_connections
        self._max_head_bytes = max_head_bytes
        self._connections: set[ClientConnection] = set()
        self._server = web.Server(handler, handler_cancellation=True)

    def __call__(self, first: bytes = b"") -> ClientConnection:
        """Protocol factory for ``loop.create_server``; ``first`` are bytes that were read already."""
        return ClientConnection(
            self,
            self._server,
            first,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self.options.idle_timeout_s,
            max_line_size=self._max_head_bytes // 2,
            max_field_size=self._max_head_bytes // 2,
            lingering_time=0,
            access_log=None,
        )

    def adopt(self, sock: socket.socket, first: bytes = b"") -> None:
        """Take in a plain-text connection that was accepted elsewhere, with the bytes that were read from it."""
        connection = self(first)
        self._arriving.add(connection)
        adopting = asyncio.get_running_loop().create_task(self._adopt(sock, connection))
        self._adopting.add(adopting)
        adopting.add_done_callback(self._adopting.discard)

    async def _adopt(self, sock: socket.socket, connection: ClientConnection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except OSError:  # the client is gone already
            sock.close()
        finally:
            self._arriving.discard(connection)

    def admit(self, connection: ClientConnection) -> bool:
        """Take a connection in, unless there are too many."""
        if self.full_with(0):
            self.on_refused()
            return False
        self._connections.add(connection)
        self._arriving.discard(connection)
        return True

    def full_with(self, others: int) -> bool:
        """Whether the node has as many clients as it may; other processes have ``others``."""
        return len(self._connections) + others >= self._max_connections

    def forget(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def sweep(self, window_s: float) -> None:
        """Cut fast-lane clients that took less than the lowest rate since the last sweep, ``window_s`` ago."""
        least = self.options.min_send_rate_bps * window_s
        for connection in list(self._connections):
            lane = connection.lane
            if lane is not None and lane.swept_slow(least) and connection.transport is not None:
                connection.transport.abort()

    @property
    def connection_count(self) -> int:
        """Open client connections, and those that are being taken in."""
        return len(self._connections) + len(self._arriving)

    async def shutdown(self, timeout_s: float) -> None:
        """Close idle connections, let running answers end, then cut what is left."""
        self._server.pre_shutdown()
        await self._server.shutdown(timeout_s)
