"""A worker process: answers warm hits of what it was lent, and hands everything else to the owner.

Owns: its connections, its copy of the hot table, the counting of its answers. Opens nothing by itself: no store, no
source, no settings file. Ends with its owner.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from cacheserver.access_lines import AccessLogLines
from cacheserver.clock import SystemClock
from cacheserver.combined_lines import CombinedLines
from cacheserver.core.subnets import Subnets
from cacheserver.hit_account import HitAccount
from cacheserver.store.residency import reading_threads
from cacheserver.web.fast_lane import LaneShared
from cacheserver.web.hot_table import HotEntry, HotTable
from cacheserver.web.wire import RATE_WINDOW_S
from cacheserver.workers.borrowed import BorrowedObject
from cacheserver.workers.channel import Channel
from cacheserver.workers.client import WorkerConnection
from cacheserver.workers.messages import (
    FIRST_BYTES_LIMIT,
    Clear,
    Collect,
    Configure,
    Drain,
    Early,
    Given,
    HandBack,
    Hello,
    Kept,
    Learn,
    Lend,
    LogLines,
    Report,
    Shed,
    Take,
    Withdraw,
    encode,
    to_worker,
)
from cacheserver.workers.tallied import TallyMeter

_REPORT_S = 0.2
_SWEEP_S = 5.0
_THREADS = 4
_TOUCHES_LIMIT = 4096
"""Uses told in one report; what is beyond only costs recency."""


class Worker:
    """Everything of one worker process; ``done`` is set when it should end."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.draining = False
        self.shedding = 0
        self.subnets = Subnets()
        self._connections: set[WorkerConnection] = set()
        self._left = asyncio.Event()
        self._joining: set[asyncio.Task[None]] = set()
        self._objects: dict[int, BorrowedObject] = {}
        self._touched: set[tuple[int, int, int]] = set()
        self._meter = TallyMeter()
        self._logs: dict[str, AccessLogLines] = {
            "json": AccessLogLines(self._forward),
            "combined": CombinedLines(self._forward),
        }
        self._idle_timeout_s = self._min_send_rate_bps = 0.0
        self._closed = 0
        self._reported = (0, 0)
        clock = SystemClock()
        self._accounts = {
            form: HitAccount(count=self._meter.request, access_log=self._logs.get(form), clock=clock)
            for form in ("", *self._logs)
        }
        self.lanes = LaneShared(
            table=HotTable(),
            clock=clock,
            account=self._accounts[""].lane,
            touch=lambda obj, first, stop: self._touched.add((obj.number, first, stop)),
            turn_bytes=1 << 20,
            executor=reading_threads(_THREADS),
        )
        self._actions: dict[type, Callable[[Any, int], None]] = {
            Take: self._on_take,
            Lend: self._on_lend,
            Learn: self._on_learn,
            Withdraw: self._on_withdraw,
            Clear: lambda _message, _fd: self.lanes.table.clear(),
            Collect: self._on_collect,
            Configure: self._on_configure,
            Shed: self._on_shed,
            Drain: self._on_drain,
        }
        self._channel = Channel(sock, on_message=self._on_message, on_lost=self.done.set)
        self._say(Hello(os.getpid()))
        for every_s, work in (
            (_REPORT_S, self._report),
            (_SWEEP_S, self._sweep_idle),
            (RATE_WINDOW_S, self._sweep_slow),
        ):
            self._regularly(every_s, work)

    def _regularly(self, every_s: float, work: Callable[[], None]) -> None:
        def turn() -> None:
            work()
            self._loop.call_later(every_s, turn)

        self._loop.call_later(every_s, turn)

    def _say(self, message: Hello | Early | HandBack | Kept | Given | LogLines | Report, fd: int = -1) -> bool:
        return self._channel.send(encode(message), fd)

    def _flush_logs(self) -> None:
        for log in self._logs.values():
            log.flush()

    def _forward(self, lines: bytes, count: int) -> None:
        self._say(LogLines(lines, count))

    def _on_given(self, obj: BorrowedObject) -> None:
        self._say(Given(obj.number))

    # -- connections ---------------------------------------------------------------------------------------------

    def joined(self, connection: WorkerConnection) -> None:
        """A connection is here."""
        self._connections.add(connection)

    def left(self, connection: WorkerConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._left.set()
        self._closed += not connection.handed_back
        self._end_when_drained()

    def _end_when_drained(self) -> None:
        if self.draining and not self._connections and not self._joining:
            self.done.set()

    def hand_back(self, fd: int, first: bytes) -> bool:
        """Give a connection to the owner; False: the owner is gone. One for which no descriptor is free ends there."""
        while len(first) > FIRST_BYTES_LIMIT:
            self._say(Early(first[:FIRST_BYTES_LIMIT]))
            first = first[FIRST_BYTES_LIMIT:]
        return self._say(HandBack(first), fd) or self._say(HandBack(b""))

    async def _join(self, sock: socket.socket, first: bytes) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: WorkerConnection(self, first), sock)
        except OSError:  # the client is gone already
            self._closed += 1
            sock.close()

    def _sweep_idle(self) -> None:
        now_s = self._loop.time()
        for connection in list(self._connections):
            if connection.idle and now_s - connection.used_s > self._idle_timeout_s:
                connection.close()

    def _sweep_slow(self) -> None:
        least_bytes = self._min_send_rate_bps * RATE_WINDOW_S
        for connection in list(self._connections):
            if connection.lane is not None and connection.lane.swept_slow(least_bytes):
                connection.abort()

    # -- what the owner says -------------------------------------------------------------------------------------

    def _on_message(self, data: memoryview, fd: int) -> None:
        message = to_worker.decode(data)
        self._actions[type(message)](message, fd)

    def _on_take(self, message: Take, fd: int) -> None:
        if fd < 0:  # no descriptor was free for it
            self._closed += 1
            return
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        joining = self._loop.create_task(self._join(sock, message.first))
        self._joining.add(joining)
        joining.add_done_callback(self._has_joined)

    def _has_joined(self, joining: asyncio.Task[None]) -> None:
        self._joining.discard(joining)
        self._end_when_drained()

    def _on_lend(self, message: Lend, fd: int) -> None:
        self._objects[message.number] = BorrowedObject(
            message.number,
            fd,
            length_bytes=message.length_bytes,
            piece_size_bytes=message.piece_size_bytes,
            given=self._on_given,
        )

    def _on_learn(self, message: Learn, _fd: int) -> None:
        obj = self._objects[message.number]
        entry = HotEntry(
            obj=obj,
            representation=obj.file.representation,
            length_bytes=obj.pieces.length_bytes,
            label=message.label,
            fresh_until_s=message.fresh_until_s,
            lines=message.lines,
        )
        self.lanes.table.put(message.shape, entry)

    def _on_withdraw(self, message: Withdraw, _fd: int) -> None:
        obj = self._objects.pop(message.number)
        self.lanes.table.forget(obj)
        if obj.held:
            self._say(Kept(obj.number))
        obj.withdraw(cut=message.cut)

    def _on_configure(self, message: Configure, _fd: int) -> None:
        self.lanes.enabled = message.fast_lane
        self.lanes.turn_bytes = message.turn_bytes
        self.lanes.account = self._accounts[message.access_log].lane
        self.subnets = Subnets(message.subnets)
        self._meter.tally.allow_services(message.services)
        self._meter.tally.allow_subnets(self.subnets.names)
        self._idle_timeout_s = message.idle_timeout_s
        self._min_send_rate_bps = message.min_send_rate_bps

    def _on_shed(self, message: Shed, _fd: int) -> None:
        self.shedding = min(message.count, len(self._connections))

    def _on_drain(self, message: Drain, _fd: int) -> None:
        self.draining = True
        self.lanes.table.clear()
        for connection in list(self._connections):
            if connection.idle:
                connection.close()
        self._loop.call_later(message.within_s, self.done.set)
        self._end_when_drained()

    # -- what the owner hears ------------------------------------------------------------------------------------

    def _on_collect(self, message: Collect, _fd: int) -> None:
        self._flush_logs()
        self._send_report(message.number)

    def _report(self) -> None:
        if self._reported != (self._closed, self._meter.requests) or self._touched:
            self._send_report(0)

    def _send_report(self, number: int) -> None:
        self._reported = (self._closed, self._meter.requests)
        touched, self._touched = sorted(self._touched)[:_TOUCHES_LIMIT], set()
        self._say(Report(number, self._meter.tally.take(), touched, *self._reported))

    async def stop(self) -> None:
        """Say what is left to say, and cut whoever is still here, or is being taken in; no socket is left open."""
        await asyncio.gather(*self._joining, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        while self._connections:
            self._left.clear()
            await self._left.wait()
        self._flush_logs()
        self._send_report(0)
        self._channel.close()


async def work(fd: int) -> None:
    """Work for the owner at the other end of socket ``fd`` until it lets go, or is gone."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)  # the owner hears them too, and says what to do
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    worker = Worker(sock)
    await worker.done.wait()
    await worker.stop()
