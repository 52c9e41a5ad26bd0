"""The loops of the load generator: one epoll over keep-alive connections, one request at a time on each.

Owns: sockets, reading heads, discarding bodies, counting. Must not compare bytes (``check_first`` does, once per
connection) nor decide what is asked for. The plain loop is written for few calls per request: at 4 KiB a request costs
the client about as much as the server.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HEAD_RECV_BYTES = 1024
SMALL_BODY_BYTES = 8192
LARGEST_HEAD_BYTES = 64 << 10
SINK_BYTES = 16 << 20
TLS_READS_PER_TURN = 64
MOST_FAULTS = 200

CheckFirst = Callable[[socket.socket, bytes], None]
"""Sends a request on a blocking socket and judges the whole answer; ValueError for a wrong one."""


@dataclass(slots=True)
class Tally:
    """What was counted since the tally was made. ``first_byte_s``: from a request sent to its answer's first byte."""

    requests: int = 0
    body_bytes: int = 0
    errors: int = 0
    first_fault: str = ""
    first_byte_s: list[float] = field(default_factory=list)


class Connection:
    """One connection and what is still to come on it."""

    __slots__ = ("left", "partial", "sent_at", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.left = 0
        self.partial = b""
        self.sent_at = 0.0


class Driver(ABC):
    """Asks the same server over and over; ``metrics.tally`` may be replaced between two ``run_until``."""

    def __init__(
        self,
        *,
        port: int,
        authority: str,
        requests: Sequence[bytes],
        expected_status: bytes,
        expected_bytes: int,
        check_first: CheckFirst | None = None,
    ) -> None:
        self.tally = Tally()
        self.opened = 0
        """Connections opened so far: more than were asked for means that some were not kept alive."""
        self._check_first = check_first
        self._port = port
        self._authority = authority
        self._next_request = itertools.cycle(requests).__next__
        self._status = expected_status
        self._expected_bytes = expected_bytes
        self._poll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._head_recv_bytes = HEAD_RECV_BYTES + (expected_bytes if expected_bytes <= SMALL_BODY_BYTES else 0)
        self._sink = bytearray(SINK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._by_fd.values():
            connection.sock.close()
        self._poll.close()

    def open(self, connections: int) -> None:
        """Open all connections, have the first answer of each judged, ask again. RuntimeError for a wrong one."""
        for _ in range(connections):
            try:
                self._open_one()
            except ValueError as error:
                raise RuntimeError(f"wrong first answer: {error}") from error

    def run_until(self, deadline: float) -> None:
        """Drive all connections until ``deadline`` of ``time.perf_counter``; RuntimeError after too many faults."""
        poll, by_fd, clock, on_readable = self._poll.poll, self._by_fd, time.perf_counter, self._on_readable
        while True:
            ready = poll(0.05)
            now = clock()
            if now >= deadline:
                return
            for fd, _events in ready:
                connection = by_fd[fd]
                try:
                    on_readable(connection, now)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                except (OSError, ValueError) as error:
                    self._replace(connection, error)

    @abstractmethod
    def _connect(self) -> socket.socket:
        """A connected socket, not yet non-blocking."""

    @abstractmethod
    def _on_readable(self, connection: Connection, now: float) -> None:
        """Take what is there; ValueError for a wrong answer."""

    def _open_one(self) -> None:
        sock = self._connect()
        self.opened += 1
        if self._check_first is not None:
            try:
                self._check_first(sock, self._next_request())
            except BaseException:
                sock.close()
                raise
        sock.setblocking(False)
        connection = Connection(sock)
        self._by_fd[sock.fileno()] = connection
        self._poll.register(sock.fileno(), select.EPOLLIN)
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        connection.sock.send(self._next_request())
        connection.sent_at = time.perf_counter()

    def _replace(self, connection: Connection, error: Exception) -> None:
        self.tally.errors += 1
        self.tally.first_fault = self.tally.first_fault or f"{type(error).__name__}: {error}"
        if self.tally.errors > MOST_FAULTS:
            raise RuntimeError(f"more than {MOST_FAULTS} faults, the first: {self.tally.first_fault}") from error
        self._poll.unregister(connection.sock.fileno())
        del self._by_fd[connection.sock.fileno()]
        connection.sock.close()
        try:
            self._open_one()
        except ValueError as wrong:
            raise RuntimeError(f"wrong answer after {self.tally.first_fault}: {wrong}") from wrong

    def _take_head(self, connection: Connection, data: bytes, now: float) -> bool:
        """Bytes that begin with (the rest of) a head; True once the head is complete and ``left`` is set."""
        if not data:
            raise ValueError("closed before an answer")
        if connection.partial:
            data = connection.partial + data
        else:
            self.tally.first_byte_s.append(now - connection.sent_at)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > LARGEST_HEAD_BYTES:
                raise ValueError("a head without an end")
            connection.partial = data
            return False
        connection.partial = b""
        if data[9:12] != self._status or content_length(data) != self._expected_bytes:
            raise ValueError(f"unexpected answer {data[:end].decode('latin-1')!r}")
        body = len(data) - end - 4
        connection.left = self._expected_bytes - body
        self.tally.body_bytes += body
        return True

    def _took_body(self, connection: Connection, got: int) -> None:
        if got == 0:
            raise ValueError(f"closed with {connection.left} bytes to come")
        connection.left -= got
        self.tally.body_bytes += got

    def _finish(self, connection: Connection) -> None:
        if connection.left < 0:
            raise ValueError("more bytes than announced")
        self.tally.requests += 1
        self._send(connection)


class PlainDriver(Driver):
    """HTTP over TCP; bodies never leave the kernel."""

    def _connect(self) -> socket.socket:
        return _connected(self._port)

    def _on_readable(self, connection: Connection, now: float) -> None:
        sock = connection.sock
        if not connection.left:
            if not self._take_head(connection, sock.recv(self._head_recv_bytes), now):
                return
            if connection.left <= 0:
                self._finish(connection)
                return
        self._took_body(connection, sock.recv_into(self._sink, min(connection.left, SINK_BYTES), socket.MSG_TRUNC))
        if not connection.left:
            self._finish(connection)


class TlsDriver(Driver):
    """HTTP over TLS; bodies are decrypted into a buffer that nobody reads."""

    cipher = ""
    """Name of the cipher that the last connection got."""

    def _connect(self) -> socket.socket:
        sock = tls_context().wrap_socket(_connected(self._port), server_hostname=self._authority)
        self.cipher = (sock.cipher() or ("",))[0]
        return sock

    def _on_readable(self, connection: Connection, now: float) -> None:
        sock = connection.sock
        assert isinstance(sock, ssl.SSLSocket)
        reads = 0
        # epoll does not see bytes that OpenSSL holds already, so the turn goes on while there are any.
        while reads < TLS_READS_PER_TURN or sock.pending():
            reads += 1
            if connection.left:
                self._took_body(connection, sock.recv_into(self._sink, min(connection.left, SINK_BYTES)))
            elif not self._take_head(connection, sock.recv(self._head_recv_bytes), now):
                continue
            if connection.left <= 0:
                self._finish(connection)
                return


def tls_context() -> ssl.SSLContext:
    """A client's context that takes any certificate and offers HTTP/1.1 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def content_length(head: bytes) -> int:
    """The announced body length; ValueError where there is none."""
    at = head.find(b"\r\nContent-Length: ")
    if at < 0:
        at = head.lower().find(b"\r\ncontent-length: ")
    if at < 0:
        raise ValueError("no Content-Length")
    return int(head[at + 18 : head.find(b"\r", at + 18)])
