"""The rest of a body, received by the store's threads: the socket is taken from aiohttp's reader, and given back.

Owns: which bodies can be taken, waiting for their bytes, and what is left of them. Must not time out or judge anything:
that is ``upstream.client``'s, as for bodies that are read.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import aiohttp

from cacheserver.outgoing.aiohttp_parts import PlainBody, plain_body

LEAST_BYTES = 1 << 17
"""Less of a body is not worth a descriptor of its own."""
_GATHER_BYTES = 1 << 19
"""A thread is asked to receive so much at once,"""
_GATHER_S = 0.03
"""or what has come in this time."""


class TakenBody:
    """What is left of one body that has a length, on a plain TCP connection."""

    def __init__(self, found: PlainBody) -> None:
        found.protocol.take()
        self.left_bytes = found.left_bytes
        self._protocol = found.protocol
        self.sock: socket.socket = found.socket.dup()
        """Non-blocking."""
        self._noticed_bytes = 1
        self.is_drained = False
        """Whether less came than was wanted, so that it is to be waited for."""

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> TakenBody | None:
        """The body of ``response``, none of which waits in aiohttp's reader; None where it has to be read."""
        found = plain_body(response)
        return None if found is None or found.left_bytes < LEAST_BYTES else cls(found)

    def took(self, count_bytes: int) -> None:
        """So much was received; at the end of the body aiohttp has its connection again, if nothing follows."""
        self.left_bytes -= count_bytes
        if self.left_bytes:
            return
        self._notice_from(1)
        with suppress(OSError):
            if self.sock.recv(1, socket.MSG_PEEK):  # it would be taken for the next answer
                self._protocol.force_close()
        self.close()
        self._protocol.give()

    async def read(self) -> bytes:
        """The next bytes, for one who cannot have a thread receive them. EOFError, OSError."""
        while True:
            await self.ready(1)
            with suppress(BlockingIOError):
                data = self.sock.recv(min(self.left_bytes, LEAST_BYTES))
                if not data:
                    raise EOFError
                self.took(len(data))
                return data

    async def ready(self, most: int) -> None:
        """Until so many bytes, or enough of them, can be received, or the connection has ended."""
        loop = asyncio.get_running_loop()
        for least in (min(most, _GATHER_BYTES), 1):
            self._notice_from(least)
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(self.sock, _set, readable)
            try:
                async with asyncio.timeout(_GATHER_S if least > 1 else None):
                    await readable
                return
            except TimeoutError:
                continue
            finally:
                loop.remove_reader(self.sock)

    def _notice_from(self, least_bytes: int) -> None:
        """Have the connection be readable from so many bytes on: an option of the socket, not of the descriptor."""
        if least_bytes != self._noticed_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)
            self._noticed_bytes = least_bytes

    def close(self) -> None:
        """Receive no more; before the end of the body the connection is of no use to anybody."""
        self.sock.close()


def _set(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
