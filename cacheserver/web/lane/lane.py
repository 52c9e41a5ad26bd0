"""Warm hits without the framework: the hot table answers a head that the full path has answered before.

Owns: one answer from head to last byte on one connection, a bounded number of bytes per turn. Holds no rule: a head
that is not in the table, not fresh, not wholly PRESENT or not of the strictest form goes to the full path with its
bytes untouched. No SQLite, no executor, no upstream (I6).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass

from cacheserver.core.errors import DiskError
from cacheserver.core.request.answer_record import AnswerRecord
from cacheserver.core.request.client import Client
from cacheserver.store.object.residency import read_through, resident
from cacheserver.web.lane.hot_table import HEAD_END, MAX_HEAD_BYTES, HotEntry, shape_of, span_of
from cacheserver.web.lane.senders import Outgoing, PlainSender, SecureSender, Sender
from cacheserver.web.lane.shared import SMALL_BYTES, LaneShared
from cacheserver.web.sending.slow_clients import reads_too_slowly

_MEDIUM_BYTES = 1 << 18
"""Up to here an answer that is in memory goes out at once, however many others do."""
_REGION_BYTES = _MEDIUM_BYTES
"""What is asked about at once whether it is in memory; no less than a medium answer, which one question covers."""
_PENDING_LIMIT_BYTES = 1 << 16
_CACHE_STATUS = "cacheserver; hit"


@dataclass(slots=True, eq=False)
class _Running(Outgoing):
    """An answer that takes several turns; ``start`` is where it began, with ``since`` pieces condemned before."""

    start: int
    since: int
    entry: HotEntry
    client: Client
    status: int
    range: bytes | None
    started_s: float
    first_byte_s: float | None = None
    warm_until: int = 0
    """Up to here a thread has read the file."""
    swept_bytes: int | None = None
    """What the client had taken at the last sweep."""
    booked_bytes: int = 0

    def record(self, ended_s: float) -> AnswerRecord:
        """See ``web.under_way``."""
        return AnswerRecord(
            self.entry.label,
            self.client,
            "hit",
            self.status,
            self.at - self.start,
            ended_s - self.started_s,
            self.first_byte_s,
            _CACHE_STATUS,
            self.range,
            None,
            self.booked_bytes,
        )


class FastLane:
    """The lane of one connection; its sender is of the kind that the connection needs."""

    __slots__ = (
        "_client", "_done", "_era", "_last_head", "_look_up", "_pending", "_running", "_secure", "_sender", "_shared",
        "_transport", "busy",
    )  # fmt: skip

    def __init__(self, shared: LaneShared, transport: asyncio.Transport, *, done: Callable[[bytes], None]) -> None:
        table = shared.table
        self._shared = shared
        self._transport = transport
        self._client = Client()
        self._done = done
        self._secure = transport.get_extra_info("sslcontext") is not None
        self._sender: Sender = (SecureSender if self._secure else PlainSender)(shared, transport)
        self._look_up: Callable[[bytes], HotEntry | None] = table.get_secure if self._secure else table.get
        self._pending = b""
        self._running: _Running | None = None
        self.busy = False
        self._last_head = b""
        """The head that went to the full path last, for it to learn from."""
        self._era = 0

    def identify(self, client: Client) -> None:
        """Count answers from now on for ``client``."""
        self._client = client

    def take(self, data: bytes) -> bool:
        """Answer the request in ``data``, or keep it while an answer is under way; False: it is for the full path."""
        if self.busy:
            self._pending += data
            if len(self._pending) > _PENDING_LIMIT_BYTES:
                self._transport.pause_reading()
            return True
        end = data.find(HEAD_END) + 4
        if end < 4 or end > MAX_HEAD_BYTES:
            self._last_head = b""
            return False
        alone = end == len(data)
        head = data if alone else data[:end]
        shape, value = shape_of(head)
        entry = self._look_up(shape)
        if entry is not None and self._answer(entry, value, b"" if alone else data[end:]):
            return True
        self._last_head = head if alone and self._shared.enabled else b""
        self._era = self._shared.table.era
        return False

    def skip(self) -> None:
        """Note that the full path takes bytes that are no head of their own."""
        self._last_head = b""

    def learn(self, entry: HotEntry) -> None:
        """The full path has answered the last head as a plain hit: answer it here from now on.

        Not where the settings have changed since it came: they may not admit it any more.
        """
        shared = self._shared
        if not shared.enabled or self._era != shared.table.era:
            return
        if not self._last_head or not shared.table.learn(self._last_head, entry, secure=self._secure):
            shared.passed += 1

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
        if size <= SMALL_BYTES:
            sent = self._sender.send_small(head, file.fd, start, size)
        elif size <= _MEDIUM_BYTES and (start // _REGION_BYTES in entry.warm or self._found_warm(entry, start, stop)):
            sent = self._sender.send_medium(head, file.fd, start, size)
        if sent == size:
            duration_s = shared.monotonic_s() - now_s
            answer = AnswerRecord(
                entry.label, self._client, "hit", status, stop - start, duration_s, None, _CACHE_STATUS, value
            )
            shared.account(answer, entry.log_lines)
            if pending:
                self._end()
            else:
                self._done(b"")
            return True
        since, client = len(obj.condemned), self._client
        self._running = running = _Running(
            head, file.fd, start, stop, start, since, entry, client, status, value, now_s
        )
        running.skip(sent)
        shared.under_way.began(running)
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
        running = self._running
        if running is None:
            return
        obj = running.entry.obj
        until = min(running.at + self._shared.turn_bytes, running.stop)
        spoilt = obj.is_spoilt(running.since, running.start, running.at)
        if spoilt or obj.pieces.present_until(running.at, until) < until:
            self._finish(running, cut=True)  # found bad while it, or the pieces before it, went out (I1)
            return
        running.since = len(obj.condemned)
        if (
            until > running.warm_until
            and not self._found_warm(running.entry, running.at, until)
            and not resident(running.fd, running.at, until)  # the regions reach further than what is sent
        ):
            self._read_ahead(running, until)
            return
        try:
            self._sender.send_turn(running)
        except BlockingIOError:
            self._note_begun(running)
            self._sender.when_writable(self._go_on)
            return
        except (OSError, DiskError) as exc:
            if isinstance(exc, DiskError) or exc.errno == errno.EIO:
                self._shared.table.forget(obj)  # the full path knows how to go on past a bad disk
            self._finish(running, cut=True)
            return
        if running.at < running.stop:
            self._note_begun(running)
            self._shared.turns.soon(self._go_on)
        else:
            self._finish(running, cut=False)

    def _note_begun(self, running: _Running) -> None:
        """The first turn of several is over; an answer of one turn costs no second look at the clock."""
        if running.first_byte_s is None and not running.head:
            running.first_byte_s = self._shared.monotonic_s() - running.started_s

    def _read_ahead(self, running: _Running, until: int) -> None:
        """Have a thread of the store bring cold bytes in, then go on; the loop never waits for the disk."""
        obj = running.entry.obj
        obj.hold()

        def done(_reading: asyncio.Future[None]) -> None:
            obj.release()
            running.warm_until = until  # the probe is not asked again
            self._shared.turns.soon(self._go_on)

        loop, executor = asyncio.get_running_loop(), self._shared.executor
        loop.run_in_executor(executor, read_through, running.fd, running.at, until).add_done_callback(done)

    def _finish(self, running: _Running, *, cut: bool) -> None:
        self._running = None
        shared, entry = self._shared, running.entry
        entry.obj.release()
        shared.under_way.ended(running)
        shared.account(running.record(shared.monotonic_s()), entry.log_lines)
        if cut:
            self.busy = False
            self._transport.abort()
        else:
            self._end()

    def _end(self) -> None:
        """The answer is out. What came meanwhile is handed on in a turn of its own; ``busy`` keeps its order."""
        self.busy = bool(self._pending)
        if self.busy:
            asyncio.get_running_loop().call_soon(self._hand_on)
        else:
            self._done(b"")

    def _hand_on(self) -> None:
        self.busy = False
        pending, self._pending = self._pending, b""
        if len(pending) > _PENDING_LIMIT_BYTES:
            self._transport.resume_reading()
        self._done(b"" if self._sender.is_gone() else pending)

    def resumed(self) -> None:
        """The transport has room again."""
        self._sender.resumed()

    def swept_slow(self, window_s: float, *, min_rate_bps: int) -> bool:
        """Whether the answer that was under way at the last sweep, ``window_s`` ago, still is and is taken too slowly.

        The caller cuts the connection then, and what is unsent goes with it.
        """
        running = self._running
        if running is None:
            return False
        before, running.swept_bytes = running.swept_bytes, self._sender.taken_bytes()
        slow = before is not None and reads_too_slowly(
            running.swept_bytes - before, window_s, min_rate_bps=min_rate_bps
        )
        if slow:
            self._sender.reset_on_close()
        return slow

    def close(self) -> None:
        """The connection is gone: give back what an answer under way holds."""
        self._sender.close()
        if self._running is not None:
            self._finish(self._running, cut=True)
        self._pending = b""
