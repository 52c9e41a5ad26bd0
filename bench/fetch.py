"""The checking client: several connections that each follow a plan of requests and compare every byte with the truth.

Owns: asking, timing and comparing of answers that matter one by one (cold content). The load generator is for rates;
here every answer has its own record. Times are of ``time.monotonic``, which all processes of one machine share.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.content import MOST_OBJECTS, Truth, object_path
from bench.load_drivers import content_length

RECV_BYTES = 256 << 10
LARGEST_HEAD_BYTES = 64 << 10
FIRST_CONTACT_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: bytes ``[start, stop)`` of an object, or the whole object without a Range field."""

    number: int
    length_bytes: int
    start: int
    stop: int
    whole: bool = False

    @property
    def path(self) -> str:
        """The object's path."""
        return object_path(self.number, self.length_bytes)


@dataclass(slots=True)
class Got:
    """What came of one request; ``fault`` is empty when status, fields and every byte were right."""

    ask: Ask
    sent_at: float = 0.0
    head_at: float = 0.0
    body_at: float = 0.0
    """When the first byte of the body was there."""
    done_at: float = 0.0
    body_bytes: int = 0
    fault: str = "not asked"


class WrongAnswer(Exception):
    """An answer that contradicts the request or the truth."""


def whole(number: int, length_bytes: int) -> Ask:
    """A request for a whole object."""
    return Ask(number, length_bytes, 0, length_bytes, whole=True)


def pieces(number: int, length_bytes: int, piece_bytes: int) -> list[Ask]:
    """One range request per piece of an object, in order."""
    return [
        Ask(number, length_bytes, start, min(start + piece_bytes, length_bytes))
        for start in range(0, length_bytes, piece_bytes)
    ]


class _Follower:
    """One connection and its plan."""

    def __init__(self, sock: socket.socket, plan: Sequence[Ask], authority: str, suffix: str, truth: Truth) -> None:
        self.sock = sock
        self.records = [Got(ask) for ask in plan]
        self._authority = authority
        self._suffix = suffix
        self._truth = truth
        self._at = -1
        self._head = b""
        self._in_body = False

    @property
    def current(self) -> Got:
        return self.records[self._at]

    def next(self) -> bool:
        """Send the next request; False at the end of the plan."""
        self._at += 1
        if self._at >= len(self.records):
            return False
        self._head, self._in_body = b"", False
        ask = self.current.ask
        extent = "" if ask.whole else f"Range: bytes={ask.start}-{ask.stop - 1}\r\n"
        request = f"GET {ask.path}{self._suffix} HTTP/1.1\r\nHost: {self._authority}\r\n{extent}\r\n"
        self.current.fault = "unfinished"
        self.current.sent_at = time.monotonic()
        self.sock.sendall(request.encode())
        return True

    def take(self, data: bytes, now: float) -> bool:
        """Take received bytes; True when the current answer is complete. Raises WrongAnswer."""
        got = self.current
        if not data:
            raise WrongAnswer(f"closed after {got.body_bytes} bytes of the body")
        if not self._in_body:
            got.head_at = got.head_at or now
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                if len(head) > LARGEST_HEAD_BYTES:
                    raise WrongAnswer("a head without an end")
                return False
            self._in_body = True
            check_head(head, got.ask)
        self._compare(got, data, now)
        if got.ask.start + got.body_bytes < got.ask.stop:
            return False
        got.done_at, got.fault = now, ""
        return True

    def _compare(self, got: Got, data: bytes, now: float) -> None:
        if not data:
            return
        got.body_at = got.body_at or now
        at = got.ask.start + got.body_bytes
        if at + len(data) > got.ask.stop or data != self._truth.read(got.ask.number, at, at + len(data)):
            raise WrongAnswer(f"wrong bytes in [{at}, {at + len(data)})")
        got.body_bytes += len(data)


def check_head(head: bytes, ask: Ask) -> None:
    """Check status, length and Content-Range of an answer; raises WrongAnswer."""
    first_line = head.split(b"\r\n", 1)[0].decode("latin-1")
    if head[9:12] != (b"200" if ask.whole else b"206"):
        raise WrongAnswer(f"status line {first_line!r}")
    try:
        length = content_length(head + b"\r\n")
    except ValueError as error:
        raise WrongAnswer(str(error)) from error
    if length != ask.stop - ask.start:
        raise WrongAnswer(f"Content-Length {length}, expected {ask.stop - ask.start}")
    expected = f"content-range: bytes {ask.start}-{ask.stop - 1}/{ask.length_bytes}"
    if not ask.whole and expected.encode() not in head.lower():
        raise WrongAnswer(f"no {expected!r} in the answer")


def fetch(
    port: int, authority: str, plans: Sequence[Sequence[Ask]], truth: Truth, *, suffix: str = "", timeout_s: float = 120
) -> list[list[Got]]:
    """Follow all plans at once, one connection each; records in the order of the plans.

    A fault ends its connection; the records that it did not reach keep the fault ``not asked``.
    """
    followers = []
    for plan in plans:
        sock = socket.create_connection(("127.0.0.1", port), 10.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        followers.append(_Follower(sock, plan, authority, suffix, truth))
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for follower in followers:
            if follower.next():
                selector.register(follower.sock, selectors.EVENT_READ, follower)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _events in selector.select(0.2):
                if not _step(key.data):
                    selector.unregister(key.fileobj)
    for follower in followers:
        follower.sock.close()
    return [follower.records for follower in followers]


def first_contact(port: int, authority: str, truth: Truth, *, suffix: str = "") -> None:
    """Fetch one small object that no bench uses, so that what a process does once is not measured as cold content."""
    found = faults(fetch(port, authority, [[whole(MOST_OBJECTS - 1, FIRST_CONTACT_BYTES)]], truth, suffix=suffix))
    if found:
        raise RuntimeError(f"wrong first answer: {found[0]}")


def _step(follower: _Follower) -> bool:
    """Take what one connection has; False when the connection is done."""
    now = time.monotonic()
    try:
        if not follower.take(follower.sock.recv(RECV_BYTES), now):
            return True
        return follower.next()
    except (WrongAnswer, OSError) as error:
        follower.current.fault = f"{type(error).__name__}: {error}"
        return False


def faults(records: Sequence[Sequence[Got]]) -> list[str]:
    """Every fault in these records, with its path and range."""
    return [
        f"{got.ask.path} [{got.ask.start}, {got.ask.stop}): {got.fault}"
        for plan in records
        for got in plan
        if got.fault
    ]
