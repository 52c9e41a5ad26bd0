"""Sends bytes to one client: small writes through the transport, object bytes by ``sendfile`` beside it.

Owns: back-pressure, fairness (a bounded number of bytes per turn), the lowest rate that a client may read at. Must not
know what it sends. A client that is gone or too slow is ``ClientGone``; a disk that fails is DiskError.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from cacheserver.concurrency.awake import awake_s, awake_timeout
from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import DiskError
from cacheserver.store.object.residency import read_through, resident
from cacheserver.web.sending import tcp
from cacheserver.web.sending.slow_clients import RATE_WINDOW_S, reads_too_slowly
from cacheserver.web.sending.turns import Turns, resolve

TLS_CHUNK_BYTES = 1 << 16
"""Read and encrypted at once: more is not faster, and twice this is what a client that reads slowly ties up."""
_SOCKET_ERRORS = (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOTCONN, errno.EBADF, errno.ECONNABORTED)


Still = Callable[[int, int], bool]
"""Whether bytes ``[start, stop)`` of a file may still be sent."""


def always(_start: int, _stop: int) -> bool:
    """For bytes that nothing changes."""
    return True


class ClientGone(Exception):
    """The client closed, reset, or read too slowly."""


class Wire:
    """The sending side of one connection.

    ``drained`` waits until nothing is buffered in the transport; it returns at once when the client is gone.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        drained: Callable[[], Awaitable[None]],
        *,
        turns: Turns,
        turn_bytes: int,
        min_rate_bps: int,
        executor: Executor | None = None,
    ) -> None:
        self._transport = transport
        self._drained = drained
        self._turns = turns
        self._turn_bytes = turn_bytes
        self._min_rate_bps = min_rate_bps
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._dup: socket.socket | None = None
        self._writable_waiter: asyncio.Future[None] | None = None
        self._waited_s = 0.0
        self._window_from_bytes = 0
        self.sent_bytes = 0
        """Bytes handed to the socket since the connection began."""

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when the transport has let go of them."""
        transport = self._open()
        transport.write(data)
        self.sent_bytes += len(data)
        if transport.get_write_buffer_size():
            await self._within_rate(self._drained)
            self._open()

    async def send_file(self, fd: int, start: int, stop: int, still: Still = always) -> None:
        """Send bytes ``[start, stop)`` of an open file, fewer where some of them may not be sent ``still``.

        ``still`` is asked before each part, with nothing else run between its answer and the part.
        """
        transport = self._open()
        if transport.get_extra_info("sslcontext") is not None:
            await self._send_read(fd, start, stop, still)
            return
        out = transport.get_extra_info("socket").fileno()
        warm_until = 0
        while start < stop:
            until = min(start + self._turn_bytes, stop)
            if until > warm_until and not resident(fd, start, until):
                await self._warm(fd, start, until)
                warm_until = until
                await self._turn()  # else ``out`` may be another client's by now
            if not still(start, until):
                return
            try:
                sent = os.sendfile(out, fd, start, until - start)
            except BlockingIOError:
                await self._within_rate(self._writable)
                await self._turn()
                continue
            except OSError as exc:
                raise self._translated(exc) from exc
            if not sent:
                raise DiskError("object file is shorter than it should be")
            start += sent
            self.sent_bytes += sent
            if start < stop:
                await self._turn()

    async def _warm(self, fd: int, start: int, stop: int) -> None:
        """Have a thread bring cold bytes in. A caller that is cancelled waits for it: the file stays open."""
        await to_the_end(self._loop.run_in_executor(self._executor, read_through, fd, start, stop))

    async def _send_read(self, fd: int, start: int, stop: int, still: Still) -> None:
        """The same through TLS: large reads, since the transport encrypts them anyway."""
        while start < stop:
            until = min(start + self._turn_bytes, stop)
            if not resident(fd, start, until):
                await self._warm(fd, start, until)
                await self._turn()
            while start < until:
                if not still(start, until):
                    return
                try:
                    data = os.pread(fd, min(until - start, TLS_CHUNK_BYTES), start)
                except OSError as exc:
                    raise DiskError("read failed", errno=exc.errno) from exc
                if not data:
                    raise DiskError("object file is shorter than it should be")
                await self.write(data)
                start += len(data)
            if start < stop:
                await self._turn()
                if not tcp.is_established(self._open().get_extra_info("socket")):
                    raise ClientGone("client closed the connection")

    async def _turn(self) -> None:
        """Until it is this connection's turn to send a large part."""
        await self._turns.mine()
        self._open()

    def _open(self) -> asyncio.Transport:
        if self._transport.is_closing():
            raise ClientGone("client closed the connection")
        return self._transport

    def _translated(self, exc: OSError) -> Exception:
        if exc.errno in _SOCKET_ERRORS:
            return ClientGone("client closed the connection")
        return DiskError(f"sendfile: {os.strerror(exc.errno or errno.EIO)}", errno=exc.errno)

    async def _writable(self) -> None:
        """Until the socket takes bytes; on a descriptor of our own, to leave the transport's registration alone."""
        if self._dup is None:
            try:
                self._dup = self._open().get_extra_info("socket").dup()
            except OSError:  # the process or the system has none left
                await asyncio.sleep(tcp.LOOK_AGAIN_S)
                return
        writable = self._writable_waiter = self._loop.create_future()
        self._loop.add_writer(self._dup, resolve, writable)
        try:
            await writable
        finally:
            if self._dup is not None:
                self._loop.remove_writer(self._dup)

    async def _within_rate(self, waiting: Callable[[], Awaitable[None]]) -> None:
        """Wait for the client, judging it by that time alone: a slow source or a pause is not its fault."""
        while True:
            began_s, taken_bytes = awake_s(), self._taken_bytes()
            try:
                async with awake_timeout(RATE_WINDOW_S if self._min_rate_bps else None):
                    await waiting()
            except TimeoutError:
                self._judge(self._taken_bytes() - taken_bytes, RATE_WINDOW_S)
                continue
            self._waited_s += awake_s() - began_s
            if self._waited_s >= RATE_WINDOW_S:
                self._judge(self._taken_bytes() - self._window_from_bytes, self._waited_s)
                self._waited_s, self._window_from_bytes = 0.0, self._taken_bytes()
            return

    def _judge(self, taken_bytes: int, waited_s: float) -> None:
        if reads_too_slowly(taken_bytes, waited_s, min_rate_bps=self._min_rate_bps):
            tcp.reset_on_close(self._open().get_extra_info("socket"))
            raise ClientGone("client reads too slowly")

    def _taken_bytes(self) -> int:
        return tcp.taken_bytes(self._open().get_extra_info("socket"), self.sent_bytes)

    def abort(self, *, reset: bool = False) -> None:
        """Close the connection without sending what is left; ``reset``: not with a FIN, which would end a body."""
        sock = self._transport.get_extra_info("socket")
        if reset and sock is not None:
            tcp.reset_on_close(sock)
        self._transport.abort()

    def close(self) -> None:
        """Give the duplicate descriptor back."""
        if self._dup is not None:
            self._loop.remove_writer(self._dup)
            self._dup.close()
            self._dup = None
        resolve(self._writable_waiter)
