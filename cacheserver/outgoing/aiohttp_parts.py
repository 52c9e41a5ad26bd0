"""The private parts of aiohttp's client that outgoing requests need; ``RELIED_ON`` lists them.

Owns: these uses, and where a body ends whose length nothing names. Must not decide when a request is tried again.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage

RELIED_ON: Final = {
    (aiohttp.ClientSession, "_retry_connection"): "false: a request on a reused connection is not sent a second time",
    (aiohttp.StreamReader, "_read_nowait"): "bytes that have come, also after an error",
    (aiohttp.BaseConnector, "_factory"): "makes the protocol of each connection",
    (aiohttp.BaseConnector, "_conns"): "idle connections; one that is closed is not used again",
    (ResponseHandler, "should_close"): "whether a connection is closed with its answer",
    (ResponseHandler, "feed_data"): "called with each answer's head and body",
    (ResponseHandler, "eof_received"): "called at the end of the peer's bytes, before connection_lost",
    (ResponseHandler, "connection_lost"): "ends a body that is delimited by close",
}


def disable_retries(session: aiohttp.ClientSession) -> None:
    """Have a failed request fail, also on a connection that was kept open."""
    session._retry_connection = False


def received_bytes(content: aiohttp.StreamReader) -> bytes:
    """Bytes that came before a body broke off: aiohttp's reader raises without giving them out."""
    return content._read_nowait(-1) if isinstance(content, aiohttp.StreamReader) else b""


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
    """aiohttp's protocol, which takes every end of a connection for the end of a body that is delimited by close.

    Over TLS such a body ends with the close_notify alert; without it, it is truncated (RFC 9112 §9.8). Over TCP it ends
    with a FIN: a reset, and a connection that this side gave up, end nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, made_by: _Strict) -> None:
        super().__init__(loop)
        self._made_by, self._era = made_by, made_by.era
        self._proper_end = False
        self._body: aiohttp.StreamReader | None = None

    @property
    def should_close(self) -> bool:
        """Whether it is closed with its answer."""
        return super().should_close or self._era != self._made_by.era

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Hand on an answer; keeps its body."""
        self._body = data[1]
        super().feed_data(data, size)

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
