"""The way between owner and worker: messages and descriptors over one pair of Unix sockets, in order.

Owns: sending without ever waiting, receiving, and noticing that the other side is gone. Must not know what is said.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from cacheserver.workers.messages import LIMIT_BYTES

_BACKLOG_MESSAGES = 65_536
_MESSAGES_A_TURN = 64
_BUFFER_BYTES = 1 << 20
_FD_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep the bounds of messages."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        end.setblocking(False)
    return pair


class Channel:
    """One end. ``on_message`` gets each datagram and its descriptor, or -1, which is then its to close."""

    def __init__(
        self, sock: socket.socket, *, on_message: Callable[[memoryview, int], None], on_lost: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._buffer = bytearray(LIMIT_BYTES)
        self._loop.add_reader(sock, self._readable)
        self.open = True

    def send(self, data: bytes, fd: int = -1) -> bool:
        """Send one message, now or as soon as there is room; ``fd`` stays the caller's. False: it cannot be sent.

        Only a descriptor may fail to go and leave the way open: whoever counts on a message is told of its loss.
        """
        if not self.open or len(data) > LIMIT_BYTES:
            return False
        if not self._queue:
            try:
                self._send_now(data, fd)
                return True
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
            except OSError:
                if fd < 0:
                    self._lose()
                return False
        if len(self._queue) >= _BACKLOG_MESSAGES:
            self._lose()
            return False
        try:
            self._queue.append((data, os.dup(fd) if fd >= 0 else -1))
        except OSError:
            return False
        return True

    def _send_now(self, data: bytes, fd: int) -> None:
        if fd < 0:
            self._sock.send(data)
        else:
            socket.send_fds(self._sock, (data,), (fd,))

    def _writable(self) -> None:
        while self._queue:
            data, fd = self._queue[0]
            try:
                self._send_now(data, fd)
            except BlockingIOError:
                return
            except OSError:
                self._lose()
                return
            self._queue.popleft()
            _close(fd)
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                size, ancillary, _flags, _address = self._sock.recvmsg_into(
                    (self._buffer,), _FD_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                size, ancillary = 0, []
            if not size:
                self._lose()
                return
            self._on_message(memoryview(self._buffer)[:size], _fd_in(ancillary))
            if not self.open:
                return

    def _lose(self) -> None:
        if self.open:
            self.close()
            self._on_lost()

    def close(self) -> None:
        """Say and hear nothing more."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        while self._queue:
            _close(self._queue.popleft()[1])
        self._sock.close()


def _fd_in(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The one descriptor that came along, or -1."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            return fds[0]
    return -1


def _close(fd: int) -> None:
    if fd >= 0:
        with suppress(OSError):
            os.close(fd)
