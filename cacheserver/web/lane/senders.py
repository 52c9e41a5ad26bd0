"""How the bytes of the fast lane leave: on the socket itself, or through the transport that encrypts them.

Owns: the two kinds of lane, which differ in nothing else, and what each does when its client takes no more. Must not
judge an entry nor count an answer: ``web.lane.lane`` does.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from cacheserver.core.errors import DiskError
from cacheserver.core.request.client import Client
from cacheserver.web.lane.hot_table import HotEntry
from cacheserver.web.lane.lane import FastLane, LaneShared
from cacheserver.web.sending.tcp import is_established
from cacheserver.web.sending.wire import TLS_CHUNK_BYTES


class PlainLane(FastLane):
    """The lane of a plain-text connection: ``send`` and ``sendfile`` beside the transport, which holds no bytes."""

    __slots__ = ("_dup",)

    def __init__(
        self, shared: LaneShared, transport: asyncio.Transport, *, client: Client, done: Callable[[bytes], None]
    ) -> None:
        super().__init__(shared, transport, client=client, done=done, look_up=shared.table.get)
        self._dup: socket.socket | None = None

    def _send_small(self, head: bytes, fd: int, start: int, size: int) -> int:
        """Through the shared buffer."""
        buffer, first = self._shared.buffer, len(head)
        buffer[:first] = head
        try:
            if os.preadv(fd, (buffer[first:size],), start, self._shared.read_flags) != size - first:
                return 0
            sent = self._sock.send(buffer[:size])
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                self._shared.read_flags = 0
            return 0
        self._sent_bytes += sent
        return sent

    def _send_medium(self, head: bytes, fd: int, start: int, size: int) -> int:
        """In two calls, without copying the body."""
        sent = 0
        try:
            sent = self._sock.send(head, socket.MSG_MORE)
            if sent == len(head):
                sent += os.sendfile(self._sock.fileno(), fd, start, size - sent)
        except OSError:
            pass  # a context manager would cost as much as the probe that was here
        self._sent_bytes += sent
        return sent

    def _send_turn(self) -> None:
        corks = self._shared.corks
        if self._head and corks:
            self._cork(True)
        while self._head:
            sent = self._sock.send(self._head, socket.MSG_MORE)
            self._head = self._head[sent:]
        budget = self._shared.turn_bytes
        out = self._sock.fileno()
        while budget > 0 and self._at < self._stop:
            sent = os.sendfile(out, self._fd, self._at, min(budget, self._stop - self._at))
            if not sent:
                raise DiskError("object file is shorter than it should be")
            self._at += sent
            self._sent_bytes += sent
            budget -= sent
        if corks and self._at >= self._stop:
            self._cork(False)

    def _cork(self, on: bool) -> None:
        """Have the kernel send nothing but whole segments until it is told to send the rest too."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def _wait_writable(self) -> None:
        if self._dup is None:
            self._dup = self._sock.dup()
        self._loop.add_writer(self._dup, self._writable)

    def resumed(self) -> None:
        """Nothing: this lane waits for the socket itself."""

    def _writable(self) -> None:
        assert self._dup is not None
        self._loop.remove_writer(self._dup)
        self._shared.turns.soon(self._go_on)

    def _close_sender(self) -> None:
        if self._dup is not None:
            self._loop.remove_writer(self._dup)
            self._dup.close()
            self._dup = None


class SecureLane(FastLane):
    """The lane of a TLS connection: reads, and writes through the transport, which holds at most about two chunks.

    What is written is never a view of memory that is used again: a client can make OpenSSL keep it for later. The
    transport must pause its protocol as soon as it holds a byte, and its protocol call ``resumed``.
    """

    __slots__ = ("_waiting",)

    def __init__(
        self, shared: LaneShared, transport: asyncio.Transport, *, client: Client, done: Callable[[bytes], None]
    ) -> None:
        super().__init__(shared, transport, client=client, done=done, look_up=shared.table.get_secure)
        self._waiting = False

    def _teach(self, head: bytes, entry: HotEntry) -> bool:
        """The same for heads that come over TLS: without TLS they may mean another object."""
        return self._shared.table.learn_secure(head, entry)

    def _send_small(self, head: bytes, fd: int, start: int, size: int) -> int:
        """As one record."""
        transport, buffer, first = self._transport, self._shared.buffer, len(head)
        if transport.get_write_buffer_size() or transport.is_closing():
            return 0
        buffer[:first] = head
        try:
            if os.preadv(fd, (buffer[first:size],), start, self._shared.read_flags) != size - first:
                return 0
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                self._shared.read_flags = 0
            return 0
        transport.write(bytes(buffer[:size]))
        self._sent_bytes += size
        return size

    def _send_medium(self, head: bytes, fd: int, start: int, size: int) -> int:
        """By one read and one call into the kernel, where it is one chunk; else in the general way."""
        transport, count = self._transport, size - len(head)
        if count > TLS_CHUNK_BYTES or transport.get_write_buffer_size() or transport.is_closing():
            return 0
        try:
            data = os.pread(fd, count, start)
        except OSError:
            return 0
        if len(data) != count:
            return 0
        transport.writelines((head, data))
        self._sent_bytes += size
        return size

    def _send_turn(self) -> None:
        transport = self._transport
        if transport.is_closing() or not is_established(self._sock):
            raise ConnectionResetError("client closed the connection")
        until = min(self._at + self._shared.turn_bytes, self._stop)
        while self._at < until:
            if transport.get_write_buffer_size():
                raise BlockingIOError
            data = os.pread(self._fd, min(TLS_CHUNK_BYTES, until - self._at), self._at)
            if not data:
                raise DiskError("object file is shorter than it should be")
            if self._head:
                transport.writelines((self._head, data))
                self._head = b""
            else:
                transport.write(data)
            self._at += len(data)
            self._sent_bytes += len(data)

    def _wait_writable(self) -> None:
        self._waiting = True
        self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        """Bytes of TLS itself that were on their way as data came in are gone by now, and nobody tells of those."""
        if not self._transport.get_write_buffer_size():
            self.resumed()

    def resumed(self) -> None:
        """Go on, in a turn of its own: the transport is still busy with telling."""
        if self._waiting:
            self._waiting = False
            self._shared.turns.soon(self._go_on)

    def _hand_on(self) -> None:
        """Nothing more is answered into a connection whose client is gone."""
        if self._transport.is_closing() or not is_established(self._sock):
            self._pending = b""
        super()._hand_on()

    def _close_sender(self) -> None:
        self._waiting = False
