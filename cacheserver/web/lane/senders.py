"""How the bytes of the fast lane leave: on the socket itself, or through the transport that encrypts them.

Owns: the two kinds of sender, and what each does when its client takes no more. Must not judge an entry nor count an
answer: ``web.lane.lane`` does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from cacheserver.core.errors import DiskError
from cacheserver.web.lane.shared import LaneShared
from cacheserver.web.sending import tcp
from cacheserver.web.sending.wire import TLS_CHUNK_BYTES

GoOn = Callable[[], None]


@dataclass(slots=True, eq=False)
class Outgoing:
    """What is left to send of one answer: ``head``, then bytes ``[at, stop)`` of the open file ``fd``."""

    head: bytes
    fd: int
    at: int
    stop: int

    def skip(self, sent: int) -> None:
        """Note that the first bytes, head included, are out."""
        self.at += max(0, sent - len(self.head))
        self.head = self.head[sent:]


class _Sender:
    """The sending side of one connection's lane."""

    __slots__ = ("_shared", "_sock", "_transport", "sent_bytes")

    def __init__(self, shared: LaneShared, transport: asyncio.Transport) -> None:
        outer = transport.get_extra_info("socket")
        self._shared = shared
        self._transport = transport
        self._sock = socket.socket(outer.family, outer.type, outer.proto, fileno=outer.fileno())
        self._sock.setblocking(False)  # else ``dup`` makes the one socket beneath both a blocking one
        self.sent_bytes = 0
        """Bytes handed to the socket or the transport since the connection began."""

    def taken_bytes(self) -> int:
        """Bytes that the client has taken since the connection began."""
        return tcp.taken_bytes(self._sock, self.sent_bytes)

    def reset_on_close(self) -> None:
        """Throw unsent bytes away when the connection is closed."""
        tcp.reset_on_close(self._sock)

    def close(self) -> None:
        """Release the socket; no callback fires any more."""
        self._sock.detach()


class PlainSender(_Sender):
    """Sends on a plain-text connection: ``send`` and ``sendfile`` beside the transport, which holds no bytes."""

    __slots__ = ("_dup",)

    def __init__(self, shared: LaneShared, transport: asyncio.Transport) -> None:
        super().__init__(shared, transport)
        self._dup: socket.socket | None = None

    def send_small(self, head: bytes, fd: int, start: int, size: int) -> int:
        """Send an answer of at most ``SMALL_BYTES``, head included, in one call; the bytes that went out.

        0 when anything is odd: the general way meets it again and deals with it.
        """
        buffer, first = self._shared.buffer, len(head)
        buffer[:first] = head
        try:
            if os.preadv(fd, (buffer[first:size],), start, self._shared.read_flags) != size - first:
                return 0
            sent = self._sock.send(buffer[:size])
        except OSError as exc:
            self._shared.note_failed_read(exc)
            return 0
        self.sent_bytes += sent
        return sent

    def send_medium(self, head: bytes, fd: int, start: int, size: int) -> int:
        """Send an answer that is in memory, in one go; the bytes that went out. 0 when anything is odd.

        Two calls, without copying the body.
        """
        sent = 0
        try:
            sent = self._sock.send(head, socket.MSG_MORE)
            if sent == len(head):
                sent += os.sendfile(self._sock.fileno(), fd, start, size - sent)
        except OSError:
            pass  # a context manager would cost as much as the probe that was here
        self.sent_bytes += sent
        return sent

    def send_turn(self, left: Outgoing) -> None:
        """Send at most ``turn_bytes`` of what is left, and move ``left`` on; in whole segments where that is faster.

        Raises BlockingIOError when the client has to take some first, OSError and DiskError.
        """
        corks = self._shared.corks
        if left.head and corks:
            self._cork(True)
        while left.head:
            sent = self._sock.send(left.head, socket.MSG_MORE)
            left.head = left.head[sent:]
        budget = self._shared.turn_bytes
        out = self._sock.fileno()
        while budget > 0 and left.at < left.stop:
            sent = os.sendfile(out, left.fd, left.at, min(budget, left.stop - left.at))
            if not sent:
                raise DiskError("object file is shorter than it should be")
            left.at += sent
            self.sent_bytes += sent
            budget -= sent
        if corks and left.at >= left.stop:
            self._cork(False)

    def _cork(self, on: bool) -> None:
        """Have the kernel send nothing but whole segments until it is told to send the rest too."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def when_writable(self, go_on: GoOn) -> None:
        """Have ``go_on`` called in its turn once the client has taken some; ``close`` takes it back.

        Waits on a descriptor of its own.
        """
        loop = asyncio.get_running_loop()
        if self._dup is None:
            try:
                self._dup = self._sock.dup()
            except OSError:  # the process or the system has none left
                loop.call_later(tcp.LOOK_AGAIN_S, self._shared.turns.soon, go_on)
                return
        loop.add_writer(self._dup, self._writable, go_on)

    def resumed(self) -> None:
        """The transport has room again; this sender waits for the socket itself."""

    def is_gone(self) -> bool:
        """Whether pending requests are to be dropped, because the client has disconnected."""
        return False

    def _writable(self, go_on: GoOn) -> None:
        assert self._dup is not None
        asyncio.get_running_loop().remove_writer(self._dup)
        self._shared.turns.soon(go_on)

    def close(self) -> None:
        """See ``_Sender.close``."""
        if self._dup is not None:
            asyncio.get_running_loop().remove_writer(self._dup)
            self._dup.close()
            self._dup = None
        super().close()


class SecureSender(_Sender):
    """Sends on a TLS connection: reads, and writes through the transport, which holds at most about two chunks.

    What is written is never a view of memory that is used again: a client can make OpenSSL keep it for later. The
    transport must pause its protocol as soon as it holds a byte, and its protocol call ``resumed``.
    """

    __slots__ = ("_go_on",)

    def __init__(self, shared: LaneShared, transport: asyncio.Transport) -> None:
        super().__init__(shared, transport)
        self._go_on: GoOn | None = None

    def send_small(self, head: bytes, fd: int, start: int, size: int) -> int:
        """As one record; see ``PlainSender.send_small``."""
        transport = self._transport
        if transport.get_write_buffer_size() or transport.is_closing():
            return 0
        buffer, first = self._shared.buffer, len(head)
        buffer[:first] = head
        try:
            if os.preadv(fd, (buffer[first:size],), start, self._shared.read_flags) != size - first:
                return 0
        except OSError as exc:
            self._shared.note_failed_read(exc)
            return 0
        transport.write(bytes(buffer[:size]))
        self.sent_bytes += size
        return size

    def send_medium(self, head: bytes, fd: int, start: int, size: int) -> int:
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
        self.sent_bytes += size
        return size

    def send_turn(self, left: Outgoing) -> None:
        """Chunk by chunk, the head with the first one."""
        transport = self._transport
        if self.is_gone():
            raise ConnectionResetError("client closed the connection")
        until = min(left.at + self._shared.turn_bytes, left.stop)
        while left.at < until:
            if transport.get_write_buffer_size():
                raise BlockingIOError
            data = os.pread(left.fd, min(TLS_CHUNK_BYTES, until - left.at), left.at)
            if not data:
                raise DiskError("object file is shorter than it should be")
            if left.head:
                transport.writelines((left.head, data))
                left.head = b""
            else:
                transport.write(data)
            left.at += len(data)
            self.sent_bytes += len(data)

    def when_writable(self, go_on: GoOn) -> None:
        """Wait for the transport."""
        self._go_on = go_on
        asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        """Bytes of TLS itself that were on their way as data came in are gone by now; no callback fires for them."""
        if not self._transport.get_write_buffer_size():
            self.resumed()

    def resumed(self) -> None:
        """Go on, in a turn of its own: the transport is still busy with telling."""
        if self._go_on is not None:
            self._shared.turns.soon(self._go_on)
            self._go_on = None

    def is_gone(self) -> bool:
        """Whether the client has disconnected: a transport of TLS takes bytes for a client that has disconnected."""
        return self._transport.is_closing() or not tcp.is_established(self._sock)

    def close(self) -> None:
        """See ``_Sender.close``."""
        self._go_on = None
        super().close()


Sender = PlainSender | SecureSender
