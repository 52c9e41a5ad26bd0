"""A raw HTTP/1.1 client: sends any bytes, reads answers strictly, and says exactly how each of them ended.

Owns the client's side of the wire. Must not repair, follow, decode or retry anything.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

from cacheserver.core.http.fields import Fields

Ending = Literal["complete", "eof", "reset", "broken"]
Framing = Literal["none", "length", "chunked", "close"]
Lines = Iterable[tuple[str, str]]

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ([^\r\n]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n]*)?")
_READ_BYTES = 262_144


class ProtocolError(AssertionError):
    """The peer sent something that is not HTTP/1.1."""


class ConnectionEnded(Exception):
    """The peer closed (``reset`` says how) before the answer's head was complete."""

    def __init__(self, received: bytes, *, reset: bool) -> None:
        super().__init__(f"connection {'reset' if reset else 'closed'} after {len(received)} bytes: {received[:80]!r}")
        self.received = received
        self.reset = reset


@dataclass(slots=True, eq=False)
class Response:
    """One answer as it came."""

    status: int
    reason: str
    fields: Fields
    raw_head: bytes
    framing: Framing
    length: int | None = None
    """Content-Length where that is the framing."""
    received: bytearray = field(default_factory=bytearray)
    ending: Ending | None = None
    """How the body ended; None while it has not."""
    informational: list[int] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The body bytes that came so far."""
        return bytes(self.received)

    @property
    def complete(self) -> bool:
        """Whether the whole body came, as far as the framing can tell."""
        return self.ending == "complete"

    def spelled(self, name: str) -> bool:
        """Whether a field line with exactly this spelling is there."""
        return f"\r\n{name}: ".encode("latin-1") in self.raw_head


class RawClient:
    """``async with RawClient(host, port) as client``: one connection, opened on entry.

    Every wait ends with TimeoutError after ``timeout_s``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = 20.0,
        receive_buffer: int | None = None,
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> None:
        """``tls``: what to trust, and the name that the peer must prove."""
        self._tls = tls
        self.host = host
        self.port = port
        self._timeout_s = timeout_s
        self._receive_buffer = receive_buffer
        self._buffer = bytearray()

    async def __aenter__(self) -> Self:
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.setblocking(False)
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
            context, name = self._tls or (None, None)
            self._reader, self._writer = await asyncio.open_connection(
                sock=sock, limit=self._receive_buffer or 1 << 20, ssl=context, server_hostname=name
            )
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # ssl.SSLError is one
            pass

    # -- sending ------------------------------------------------------------------------------------------------

    def head(self, method: str, target: str, headers: Lines = (), *, host: str | None = None) -> bytes:
        """The bytes of a request head; Host is the peer's address unless ``host`` or a header line gives it."""
        lines = list(headers)
        if all(name.lower() != "host" for name, _ in lines):
            lines.insert(0, ("Host", host if host is not None else f"{self.host}:{self.port}"))
        text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        return text.encode("latin-1")

    async def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._writer.write(data)
        await self._writer.drain()

    def half_close(self) -> None:
        """FIN; answers can still be read."""
        self._writer.write_eof()

    def abort(self) -> None:
        """RST."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def request(self, method: str, target: str, headers: Lines = (), *, host: str | None = None) -> Response:
        """Send one request and read its whole answer."""
        response = await self.start(method, target, headers, host=host)
        return await self.finish(response)

    async def start(self, method: str, target: str, headers: Lines = (), *, host: str | None = None) -> Response:
        """Send one request and read the head of its answer."""
        await self.send(self.head(method, target, headers, host=host))
        return await self.receive_head(method)

    # -- receiving ----------------------------------------------------------------------------------------------

    async def _more(self) -> bool:
        """Read once into the buffer; False at the end, ConnectionResetError where it was not a clean one."""
        async with asyncio.timeout(self._timeout_s):
            chunk = await self._reader.read(_READ_BYTES)
        self._buffer += chunk
        return bool(chunk)

    async def receive_head(self, method: str = "GET") -> Response:
        """Read the next final head; heads of 1xx are counted in ``informational``."""
        early: list[int] = []
        while True:
            try:
                while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                    if not await self._more():
                        raise ConnectionEnded(bytes(self._buffer), reset=False)
            except ConnectionError as error:
                raise ConnectionEnded(bytes(self._buffer), reset=True) from error
            raw = bytes(self._buffer[: end + 4])
            del self._buffer[: end + 4]
            response = _parse_head(raw, method)
            if response.status >= 200:
                response.informational = early
                return response
            early.append(response.status)

    async def receive(self, method: str = "GET") -> Response:
        """Read the next whole answer."""
        return await self.finish(await self.receive_head(method))

    async def read_body(self, response: Response, size: int) -> bytes:
        """Read until the answer holds ``size`` bytes or the body ends; the body so far."""
        while len(response.received) < size and response.ending is None:
            await self._body_step(response, size)
        return response.body

    async def finish(self, response: Response) -> Response:
        """Read the rest of the body."""
        while response.ending is None:
            await self._body_step(response, None)
        return response

    async def at_end(self) -> bool:
        """Whether the peer closes now without sending anything more; waits for either."""
        try:
            return not self._buffer and not await self._more()
        except ConnectionError:
            return True

    async def _body_step(self, response: Response, size: int | None) -> None:
        try:
            if response.framing == "chunked":
                await self._chunk(response)
                return
            limit = response.length
            if limit is None or len(response.received) < limit:
                if not self._buffer and not await self._more():
                    response.ending = "complete" if response.framing == "close" else "eof"
                    return
                room = len(self._buffer) if limit is None else limit - len(response.received)
                if size is not None:
                    room = min(room, size - len(response.received))
                response.received += self._buffer[:room]
                del self._buffer[:room]
            if limit is not None and len(response.received) == limit:
                response.ending = "complete"
        except ConnectionError:
            response.ending = "reset"

    async def _chunk(self, response: Response) -> None:
        """One chunk, or the trailer section (RFC 9112 §7.1)."""
        line = await self._line(response)
        if line is None:
            return
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            response.ending = "broken"
            return
        size = int(match[1], 16)
        if size == 0:
            while line := await self._line(response):
                pass
            if line is not None:
                response.ending = "complete"
            return
        while len(self._buffer) < size + 2:
            if not await self._more():
                response.received += self._buffer[:size]
                response.ending = "eof"
                return
        response.received += self._buffer[:size]
        if self._buffer[size : size + 2] != b"\r\n":
            response.ending = "broken"
        del self._buffer[: size + 2]

    async def _line(self, response: Response) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not await self._more():
                response.ending = "eof"
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


def _parse_head(raw: bytes, method: str) -> Response:
    first, *lines = raw[:-4].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise ProtocolError(f"status line {first!r}")
    pairs = []
    for line in lines:
        parts = _FIELD_LINE.fullmatch(line)
        if parts is None:
            raise ProtocolError(f"field line {line!r}")
        pairs.append((parts[1], parts[2]))
    fields = Fields.from_raw(pairs)
    status = int(match[1])
    response = Response(status, match[2].decode("latin-1"), fields, raw, "close")
    lengths, coding = fields.lines("Content-Length"), fields.value("Transfer-Encoding")
    if lengths and coding is not None:
        raise ProtocolError("Content-Length together with Transfer-Encoding")
    if len(lengths) > 1 or (lengths and not re.fullmatch("[0-9]+", lengths[0])):
        raise ProtocolError(f"Content-Length {lengths}")
    if method == "HEAD" or status < 200 or status in (204, 304):
        response.framing, response.ending = "none", "complete"
    elif coding is not None:
        if coding.lower() != "chunked":
            raise ProtocolError(f"Transfer-Encoding {coding}")
        response.framing = "chunked"
    elif lengths:
        response.framing, response.length = "length", int(lengths[0])
    return response


async def fetch(
    address: tuple[str, int], target: str, headers: Lines = (), *, method: str = "GET", host: str | None = None
) -> Response:
    """One request on a connection of its own."""
    async with RawClient(*address) as client:
        return await client.request(method, target, headers, host=host)
