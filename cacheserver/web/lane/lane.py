"""Warm hits without the framework: a head that the full path has answered before is answered from the hot table.

Owns: the way of one such answer from head to last byte on one connection, a bounded number of bytes per turn; the
calls that send are in ``web.lane.senders``, one kind without TLS and one with it. Holds no rule: whatever is not in the
table, not fresh, not wholly PRESENT or not of the strictest form goes to the full path with its bytes untouched. No
SQLite, no executor, no upstream (I6).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from cacheserver.core.errors import DiskError
from cacheserver.core.request.client import Client
from cacheserver.ports import Clock
from cacheserver.store.object.residency import read_through, resident
from cacheserver.web.lane.hot_table import (
    HEAD_END,
    MAX_HEAD_BYTES,
    HotEntry,
    HotTable,
    SentObject,
    shape_of,
    span_of,
)
from cacheserver.web.sending import tcp
from cacheserver.web.sending.turns import Turns

_SMALL_BYTES = (1 << 14) + 4096
"""Answers up to this size, head included, go out by one read and one send."""
_MEDIUM_BYTES = 1 << 18
"""Up to here an answer that is in memory goes out at once, however many others do."""
_REGION_BYTES = _MEDIUM_BYTES
"""What is asked about at once whether it is in memory; no less than a medium answer, which one question covers."""
_PENDING_LIMIT_BYTES = 1 << 16
_NOT_UNDER_WAY: tuple[HotEntry | None, float, int] = (None, 0.0, 0)


Touch = Callable[[Any, int, int], None]
"""Note a use of pieces ``[first, stop)``."""


class LaneAccount(Protocol):
    """Counts and logs one answer of the lane; ``first_byte_s`` is None where it went out all at once."""

    def __call__(
        self,
        entry: HotEntry,
        status: int,
        body_bytes: int,
        started_s: float,
        client: Client,
        range_: bytes | None,
        first_byte_s: float | None = None,
    ) -> None: ...


class LaneShared:
    """What the lanes of all connections share."""

    def __init__(
        self, *, table: HotTable, clock: Clock, account: LaneAccount, touch: Touch, turn_bytes: int, executor: Executor
    ) -> None:
        self.table = table
        self.clock = clock
        self.monotonic_s = clock.monotonic_s
        self.account = account
        self.touch = touch
        self.executor = executor
        self.turn_bytes = turn_bytes
        self.turns = Turns(clock)
        self.read_flags = os.RWF_NOWAIT
        """A read that would wait for the disk gives up, and the general way reads ahead in a thread."""
        self.corks = not tcp.paces()
        """Whether large answers go out in whole segments: up to a quarter faster, but half as fast where TCP paces."""
        self.buffer = memoryview(bytearray(_SMALL_BYTES))
        """For one small answer at a time: it is filled and sent without giving up the loop."""
        self.enabled = True
        self.answers = 0
        """Answers that the lane has begun since the start."""
        self.passed = 0
        """Plain hits of known or unseen heads that the full path has answered while the lane was enabled."""


class FastLane(ABC):
    """The lane of one connection; how bytes leave it is said by a subclass (``web.lane.senders``)."""

    __slots__ = (
        "_at", "_client", "_done", "_entry", "_era", "_fd", "_first_byte_s", "_head", "_look_up", "_loop", "_pending",
        "_range", "_sent_bytes", "_shared", "_sock", "_start", "_started_s", "_status", "_stop", "_swept",
        "_transport", "_warm_until", "busy", "last_head",
    )  # fmt: skip

    def __init__(
        self,
        shared: LaneShared,
        transport: asyncio.Transport,
        *,
        client: Client,
        done: Callable[[bytes], None],
        look_up: Callable[[bytes], HotEntry | None],
    ) -> None:
        outer = transport.get_extra_info("socket")
        self._shared = shared
        self._transport = transport
        self._client = client
        self._done = done
        self._look_up = look_up
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket(outer.family, outer.type, outer.proto, fileno=outer.fileno())
        self._sock.setblocking(False)  # else ``dup`` makes the one socket beneath both a blocking one
        self._pending = b""
        self._entry: HotEntry | None = None
        self._first_byte_s: float | None = None
        self.busy = False
        self.last_head = b""
        """The head that went to the full path last, for it to learn from."""
        self._era = 0
        self._sent_bytes = 0
        self._swept = _NOT_UNDER_WAY

    @abstractmethod
    def _send_small(self, head: bytes, fd: int, start: int, size: int) -> int:
        """Send an answer of at most ``_SMALL_BYTES``, head included, in one call; the bytes that went out.

        0 when anything is odd: the general way meets it again and deals with it.
        """

    @abstractmethod
    def _send_medium(self, head: bytes, fd: int, start: int, size: int) -> int:
        """Send an answer of at most ``_MEDIUM_BYTES``, which is in memory, in one go; the bytes that went out.

        0 when anything is odd.
        """

    @abstractmethod
    def _send_turn(self) -> None:
        """Send what is left, at most ``turn_bytes`` of it, and move ``_head``, ``_at`` and ``_sent_bytes`` on.

        Raises BlockingIOError when the client has to take some first, OSError and DiskError.
        """

    @abstractmethod
    def _wait_writable(self) -> None:
        """Have ``_go_on`` called once the client has taken some."""

    @abstractmethod
    def _close_sender(self) -> None:
        """Give back what the sending side holds; nothing calls ``_go_on`` any more."""

    @abstractmethod
    def resumed(self) -> None:
        """The transport has room again."""

    def take(self, data: bytes) -> bool:
        """Answer the request in ``data``, or keep it while an answer is under way; False: it is for the full path."""
        if self.busy:
            self._pending += data
            if len(self._pending) > _PENDING_LIMIT_BYTES:
                self._transport.pause_reading()
            return True
        end = data.find(HEAD_END) + 4
        if end < 4 or end > MAX_HEAD_BYTES:
            self.last_head = b""
            return False
        alone = end == len(data)
        head = data if alone else data[:end]
        shape, value = shape_of(head)
        entry = self._look_up(shape)
        if entry is not None and self._answer(entry, value, b"" if alone else data[end:]):
            return True
        self.last_head = head if alone and self._shared.enabled else b""
        self._era = self._shared.table.era
        return False

    def learn(self, entry: HotEntry) -> None:
        """The full path has answered ``last_head`` as a plain hit: answer it here from now on.

        Not where the settings have changed since it came: they may not admit it any more.
        """
        shared = self._shared
        if not shared.enabled or self._era != shared.table.era:
            return
        if not self.last_head or not self._teach(self.last_head, entry):
            shared.passed += 1

    def _teach(self, head: bytes, entry: HotEntry) -> bool:
        """Whether the head was new to the table, or cannot be learned."""
        return self._shared.table.learn(head, entry)

    def _answer(self, entry: HotEntry, value: bytes | None, pending: bytes) -> bool:
        """Answer at once, or begin to; False, with nothing done, when the full path has to judge."""
        shared, obj, length = self._shared, entry.obj, entry.length_bytes
        start, stop = (0, length) if value is None else span_of(value, length)
        now_s, file = shared.monotonic_s(), obj.file
        pieces = file.pieces
        if (
            start >= stop
            or now_s >= entry.fresh_until_s
            or obj.obsolete
            or file.fd < 0
            or file.representation is not entry.representation
            or not pieces.present(start, stop)
        ):
            return False
        if now_s >= entry.next_second_s and not entry.begin_second(now_s, shared.clock.wall_s()):
            return False
        piece = start // pieces.piece_size_bytes
        if piece not in entry.touched:
            shared.touch(obj, *pieces.covering(start, stop))
            entry.touched.add(piece)
        if value is None:
            status, head = 200, b"%bContent-Length: %d\r\n\r\n" % (entry.head_200, length)
        else:
            status, head = 206, b"%bContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n" % (
                entry.head_206, start, stop - 1, length, stop - start,
            )  # fmt: skip
        self._pending = pending
        shared.answers += 1
        size = len(head) + stop - start
        sent = 0
        if size <= _SMALL_BYTES:
            sent = self._send_small(head, file.fd, start, size)
        elif size <= _MEDIUM_BYTES and (start // _REGION_BYTES in entry.warm or self._found_warm(entry, start, stop)):
            sent = self._send_medium(head, file.fd, start, size)
        if sent == size:
            shared.account(entry, status, stop - start, now_s, self._client, value)
            if pending:
                self._end()
            else:
                self._done(b"")
            return True
        self._entry, self._status, self._range, self._first_byte_s = entry, status, value, None
        self._head, self._at = head[sent:], start + max(0, sent - len(head))
        self._fd, self._start, self._stop, self._started_s, self._warm_until = file.fd, start, stop, now_s, 0
        obj.hold()
        self.busy = True
        shared.turns.now(self._go_on)
        return True

    def _found_warm(self, entry: HotEntry, start: int, stop: int) -> bool:
        """Whether bytes ``[start, stop)`` are likely to be in memory; what is, is asked for once a second.

        A region stands for itself and the next one, so that most spans need one question less than they have regions.
        """
        first = start // _REGION_BYTES
        regions = range(first, max(first + 1, (stop - 1) // _REGION_BYTES))
        if entry.warm.issuperset(regions):
            return True
        for region in regions:
            until = min((region + 2) * _REGION_BYTES, entry.length_bytes)
            if region not in entry.warm and not resident(entry.obj.file.fd, region * _REGION_BYTES, until):
                return False
            entry.warm.add(region)
        return True

    def _go_on(self) -> None:
        """Send what may be sent in one turn; called again, in its turn, when the socket takes more."""
        if self._entry is None:
            return
        until = min(self._at + self._shared.turn_bytes, self._stop)
        if self._entry.obj.pieces.present_until(self._at, until) < until:
            self._finish(cut=True)  # found bad at rest while the pieces before it went out (I1)
            return
        if (
            until > self._warm_until
            and not self._found_warm(self._entry, self._at, until)
            and not resident(self._fd, self._at, until)  # the regions reach further than what is sent
        ):
            self._read_ahead(self._entry.obj, until)
            return
        try:
            self._send_turn()
        except BlockingIOError:
            self._note_begun()
            self._wait_writable()
            return
        except (OSError, DiskError) as exc:
            if isinstance(exc, DiskError) or exc.errno == errno.EIO:
                self._shared.table.forget(self._entry.obj)  # the full path knows how to go on past a bad disk
            self._finish(cut=True)
            return
        if self._at < self._stop:
            self._note_begun()
            self._shared.turns.soon(self._go_on)
        else:
            self._finish(cut=False)

    def _note_begun(self) -> None:
        """The first turn of several is over; an answer of one turn costs no second look at the clock."""
        if self._first_byte_s is None and not self._head:
            self._first_byte_s = self._shared.clock.monotonic_s() - self._started_s

    def _read_ahead(self, obj: SentObject, until: int) -> None:
        """Have a thread of the store bring cold bytes in, then go on; the loop never waits for the disk."""
        obj.hold()

        def done(_reading: asyncio.Future[None]) -> None:
            obj.release()
            self._warm_until = until  # the probe is not asked again
            self._shared.turns.soon(self._go_on)

        reading = self._loop.run_in_executor(self._shared.executor, read_through, self._fd, self._at, until)
        reading.add_done_callback(done)

    def _finish(self, *, cut: bool) -> None:
        entry = self._entry
        assert entry is not None
        self._entry = None
        entry.obj.release()
        sent_bytes = self._at - self._start
        self._shared.account(
            entry, self._status, sent_bytes, self._started_s, self._client, self._range, self._first_byte_s
        )
        if cut:
            self.busy = False
            self._transport.abort()
        else:
            self._end()

    def _end(self) -> None:
        """The answer is out. What came meanwhile is handed on in a turn of its own; ``busy`` keeps its order."""
        self.busy = bool(self._pending)
        if self.busy:
            self._loop.call_soon(self._hand_on)
        else:
            self._done(b"")

    def _hand_on(self) -> None:
        self.busy = False
        pending, self._pending = self._pending, b""
        if len(pending) > _PENDING_LIMIT_BYTES:
            self._transport.resume_reading()
        self._done(pending)

    def swept_slow(self, least_bytes: float) -> bool:
        """Whether the answer that was under way at the last sweep still is, with fewer bytes taken than this.

        The caller cuts the connection then, and what is unsent goes with it.
        """
        entry, started_s, before_bytes = self._swept
        if self._entry is None:
            self._swept = _NOT_UNDER_WAY
            return False
        taken_bytes = tcp.taken_bytes(self._sock, self._sent_bytes)
        self._swept = (self._entry, self._started_s, taken_bytes)
        same = entry is self._entry and started_s == self._started_s
        slow = same and taken_bytes - before_bytes < least_bytes
        if slow:
            tcp.reset_on_close(self._sock)
        return slow

    def close(self) -> None:
        """The connection is gone: give back what an answer under way holds."""
        self._close_sender()
        if self._entry is not None:
            self._finish(cut=True)
        self._pending = b""
        self._sock.detach()
