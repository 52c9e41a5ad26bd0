"""The private parts of aiohttp's client that outgoing requests need; ``RELIED_ON`` lists them.

Owns: these uses, where a body ends whose length nothing names, and that an answer belongs to a request. Must not decide
when a request is tried again, but tells whether its connection had been used before.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

RELIED_ON: Final = {
    (aiohttp.ClientSession, "_retry_connection"): "false: a request on a reused connection is not sent a second time",
    (aiohttp.StreamReader, "_read_nowait"): "bytes that have come, also after an error",
    (aiohttp.StreamReader, "_size"): "bytes that have come and were not read",
    (ResponseHandler, "_reading_paused"): "whether the reader has more than it wants, so that the parser may have some",
    (ResponseHandler, "_buffer_paused"): "the same, for bytes that are not parsed",
    (aiohttp.BaseConnector, "_factory"): "makes the protocol of each connection",
    (aiohttp.BaseConnector, "_conns"): "idle connections with their times, by a key that has host and port",
    (ResponseHandler, "_resume_transport_reading"): "called when a reader wants more, of an earlier body too",
    (ResponseHandler, "should_close"): "whether a connection is closed with its answer",
    (ResponseHandler, "set_response_params"): "called before each request is sent",
    (ResponseHandler, "data_received"): "called with what has come",
    (ResponseHandler, "feed_data"): "called with each answer's head and body, 1xx too",
    (ResponseHandler, "eof_received"): "called at the end of the peer's bytes, before connection_lost",
    (ResponseHandler, "connection_lost"): "ends a body that is delimited by close",
}


_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)")


def disable_retries(session: aiohttp.ClientSession) -> None:
    """Have a failed request fail, also on a connection that was kept open."""
    session._retry_connection = False


@dataclass(slots=True)
class Connected:
    """How a request came to its connection: the ``trace_request_ctx`` of a session with ``reuse_trace``."""

    reused: bool = False
    """Whether the connection had been used before, and kept."""


def reuse_trace() -> aiohttp.TraceConfig:
    """What fills in ``Connected``."""

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(reused)
    return trace


def drop_idle(session: aiohttp.ClientSession, url: URL) -> None:
    """Close the idle connections to the host and port of ``url``."""
    assert session.connector is not None
    kept = session.connector._conns
    for key in [key for key in kept if (key.host, key.port) == (url.raw_host, url.port)]:
        for protocol, _since_s in kept.pop(key):
            protocol.close()


def received_bytes(content: aiohttp.StreamReader) -> bytes:
    """Bytes that came before a body broke off: aiohttp's reader raises without giving them out."""
    return content._read_nowait(-1) if isinstance(content, aiohttp.StreamReader) else b""


@dataclass(frozen=True, slots=True)
class PlainBody:
    """The rest of a body that is delimited by its length, none of which was received."""

    protocol: StrictEnds
    left_bytes: int

    @property
    def socket(self) -> socket.socket:
        """The connection's."""
        assert self.protocol.transport is not None
        found: socket.socket = self.protocol.transport.get_extra_info("socket")
        return found


def plain_body(response: aiohttp.ClientResponse) -> PlainBody | None:
    """What of a body is still in the socket; None where some of it waits here, for TLS, and for any other framing."""
    content, connection, length = response.content, response.connection, response.headers.get("Content-Length", "")
    if connection is None or not isinstance(content, aiohttp.StreamReader) or "Transfer-Encoding" in response.headers:
        return None
    protocol, transport = connection.protocol, connection.transport
    if not isinstance(protocol, StrictEnds) or transport is None or transport.get_extra_info("sslcontext"):
        return None
    waits = content._size or content.is_eof() or content.exception() is not None
    if waits or protocol._reading_paused or protocol._buffer_paused or transport.is_closing() or not length.isdecimal():
        return None
    return PlainBody(protocol, int(length) - content.total_bytes)


def demand_proper_ends(connector: aiohttp.BaseConnector) -> None:
    """Have a body that is delimited by close fail unless the peer has ended the connection properly."""
    connector._factory = partial(_Strict(asyncio.get_running_loop()))


def end_reuse(session: aiohttp.ClientSession) -> None:
    """Send no further request on a connection that is open now; answers under way come to their end."""
    connector = session.connector
    if connector is None or not isinstance(makes := connector._factory.func, _Strict):
        return
    makes.era += 1
    for idle in connector._conns.values():
        for protocol, _since in idle:
            protocol.close()


class _Strict:
    """Makes the protocol of each connection; those of an earlier ``era`` are not used again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.era = 0

    def __call__(self) -> ResponseHandler:
        return StrictEnds(self._loop, made_by=self)


class StrictEnds(ResponseHandler):
    """aiohttp's protocol, stricter about where an answer begins and ends.

    It takes an answer that nobody asked for as that to the connection's next request: some load balancers send a 408
    when a connection has been idle. Here such an answer ends the connection. So does a head with a line feed alone
    among other line ends, which an origin may have copied from a request: behind it is no field of the origin's own.

    It takes every end of a connection for the end of a body that is delimited by close. Over TLS such a body ends with
    the close_notify alert; without it, it is truncated (RFC 9112 §9.8). Over TCP it ends with a FIN: a reset, and a
    connection that this side gave up, end nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, made_by: _Strict) -> None:
        super().__init__(loop)
        self._made_by, self._era = made_by, made_by.era
        self._awaits_head = False
        self._head = b""
        """What has come of a head that is not complete."""
        self._proper_end = False
        self._taken = False
        self._body: aiohttp.StreamReader | None = None

    @property
    def should_close(self) -> bool:
        """Whether it is closed with its answer."""
        return super().should_close or self._era != self._made_by.era

    def take(self) -> None:
        """Receive nothing: another has the socket.

        Whoever still reads an earlier body on this connection, which came whole, makes aiohttp receive again.
        """
        self._taken = True
        assert self.transport is not None
        self.transport.pause_reading()

    def give(self) -> None:
        """The body that was taken has come to its end: receive what follows."""
        self._taken = False
        if self._body is not None:
            self._body.feed_eof()

    def _resume_transport_reading(self) -> None:
        if not self._taken:
            super()._resume_transport_reading()

    def set_response_params(self, **params: Any) -> None:
        """Await an answer."""
        self._awaits_head, self._head = True, b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, if it belongs to an answer that is awaited."""
        if data and not self._awaits_head and (self._body is None or self._body.is_eof()):
            self._refuse()
            return
        if self._awaits_head and self._mixes_line_ends(data):
            self.set_exception(HttpProcessingError(message="the head mixes line ends"))
            self._refuse()
            return
        super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Hand on an answer; keeps its body."""
        self._awaits_head = 100 <= data[0].code < 200 and data[0].code != 101
        self._body = data[1]
        super().feed_data(data, size)

    def _mixes_line_ends(self, data: bytes) -> bool:
        """Whether a head is complete now, and a line feed alone is among its CR LF: an origin that echoes one."""
        come, at = self._head + data, 0
        while (end := _END_OF_HEAD.search(come, at)) is not None:
            if _BARE_LF.search(come, at, end.end()) and come.find(b"\r\n", at, end.end()) >= 0:
                return True
            if not _INTERIM.match(come, at):
                self._head = b""
                return False
            at = end.end()
        self._head = come[at:]
        return False

    def _refuse(self) -> None:
        """End a connection on which something came that nobody asked for."""
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> None:
        """Take note of how the peer ended: every byte before was received by now."""
        super().eof_received()
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        self._proper_end = tls is None or _was_closed(tls)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the body, or fail it."""
        body, self._body = self._body, None
        if body is not None and not body.is_eof() and (exc is not None or not self._proper_end):
            body.set_exception(aiohttp.ClientPayloadError("the connection ended without a proper end"))
        super().connection_lost(exc)


def _was_closed(tls: ssl.SSLObject) -> bool:
    """Whether the peer has sent close_notify; asyncio tells of both ends in the same way."""
    try:
        return tls.read(1) == b""
    except ssl.SSLError:
        return False
