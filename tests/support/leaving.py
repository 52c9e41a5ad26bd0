"""A server that gives every request one answer and leaves the connection in one of the ways in which peers leave.

Owns: the ways. Must not decide what a client makes of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator

from tests.support.flow import PATIENCE_S


class Leaving:
    """``ending``: ``end`` (all that is proper), ``fin`` (over TLS without close_notify), ``reset`` (once ``taken``)."""

    def __init__(self, answer: bytes, ending: str) -> None:
        self.taken = asyncio.Event()
        """Set by the test once its client has the body: a reset throws away what was not read."""
        self.address = ""
        self._answer = answer
        self._ending = ending

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer)
            await writer.drain()
            if self._ending == "end":
                writer.close()
                return
            if self._ending == "reset":
                await asyncio.wait_for(self.taken.wait(), PATIENCE_S)
                reset = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Leaving]:
        """Listen on a free port of 127.0.0.1."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        async with server:
            host, port = server.sockets[0].getsockname()
            self.address = f"{host}:{port}"
            yield self
