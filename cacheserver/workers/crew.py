"""The workers of one node: started, fed with connections and hot objects, replaced when they die.

Owns: which process a connection goes to, and what every worker knows of the hot table. With one process there is
nobody here, and everything stays in the owner. Must not know of HTTP beyond the shape of a head.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from cacheserver.log import event, get_logger
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.hot_table import HotEntry, HotTable
from cacheserver.workers.channel import socket_pair
from cacheserver.workers.messages import Configure, Drain, Report, Shed
from cacheserver.workers.peer import Peer
from cacheserver.workers.process import end_process, start_process

_log = get_logger(__name__)
_REPLY_S = 1.0
_LINGER_S = 2.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STABLE_S = 5.0
_TURN_S = 1.0
_DOUBTED_TURNS = 2
"""A worker that has been silent for so long gets no client."""
_GIVEN_UP_TURNS = 5
_START_TURNS = 60
"""How long the interpreter may take to start and import."""


class Crew:
    """Every worker of one node. ``own_connections`` says how many clients the owner has itself."""

    def __init__(
        self,
        *,
        count: int,
        table: HotTable,
        configuration: Configure,
        own_connections: Callable[[], int],
        adopt: Callable[[socket.socket, bytes], None],
        touch: Callable[[StoredObject, int, int], None],
        absorb: Callable[[bytes], None],
        log_lines: Callable[[bytes, int], None],
    ) -> None:
        self.count = count
        """Workers beside the owner."""
        self._table = table
        self._configuration = configuration
        self._own_connections = own_connections
        self._adopt = adopt
        self._touch = touch
        self._absorb = absorb
        self._log_lines = log_lines
        self._peers: list[Peer] = []
        """Those that are ready."""
        self._living: set[Peer] = set()
        """Those whose process has not ended."""
        self._runs: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.absorbed_requests = 0
        """Answers of all workers so far, the lost ones included."""
        if count:
            table.on_learn = self._teach
            table.on_clear = self._clear

    # -- processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every worker; none is waited for."""
        self._runs = [asyncio.create_task(self._keep_running(), name="worker") for _ in range(self.count)]
        if self.count:
            asyncio.get_running_loop().call_later(_TURN_S, self._turn)

    async def _keep_running(self) -> None:
        loop, pause_s = asyncio.get_running_loop(), _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began_s = loop.time()
            try:
                await self._run_one()
            except OSError as exc:
                event(_log, "worker_failed", severity=logging.ERROR, reason=exc.strerror or "cannot be started")
            pause_s = _FIRST_PAUSE_S if loop.time() - began_s > _STABLE_S else min(pause_s * 2, _LONGEST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _run_one(self) -> None:
        ours, theirs = socket_pair()
        try:
            with theirs:
                process = await start_process(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        peer = Peer(
            ours,
            on_hello=self._on_hello,
            on_hand_back=self._on_hand_back,
            on_report=self._on_report,
            on_log_lines=self._log_lines,
        )
        self._living.add(peer)
        if self._stopping.is_set():
            peer.close()
        try:
            await peer.lost.wait()
        finally:
            if peer in self._peers:
                self._peers.remove(peer)
            peer.close()
            code = await end_process(process, 0.0 if peer.silent_turns > _DOUBTED_TURNS else _LINGER_S)
            self._living.discard(peer)
            peer.ended()
        if not self._stopping.is_set():
            event(_log, "worker_lost", severity=logging.WARNING, pid=process.pid, code=code)

    def _on_hello(self, peer: Peer) -> None:
        peer.say(self._configuration)
        self._peers.append(peer)
        event(_log, "worker_ready", pid=peer.pid)

    def _turn(self) -> None:
        """Once a second: give up workers that do not react (turns are counted, as this process may hang too)."""
        if self._stopping.is_set():
            return
        for peer in self._living:
            if peer.silent_turns >= (_GIVEN_UP_TURNS if peer in self._peers else _START_TURNS):
                event(_log, "worker_silent", severity=logging.ERROR, pid=peer.pid)
                peer.close()
            else:
                peer.nudge()
        self._balance()
        asyncio.get_running_loop().call_later(_TURN_S, self._turn)

    async def stop(self, drain_s: float) -> None:
        """Let running answers end within ``drain_s``, then end every worker."""
        self._stopping.set()
        for peer in self._living:
            if peer in self._peers:
                peer.say(Drain(drain_s))
            else:
                peer.close()
        if self._runs:
            _done, late = await asyncio.wait(self._runs, timeout=drain_s + _LINGER_S)
            for run in late:
                run.cancel()
            await asyncio.gather(*self._runs, return_exceptions=True)

    def configure(self, configuration: Configure) -> None:
        """Take up reloaded settings."""
        self._configuration = configuration
        for peer in self._peers:
            peer.say(configuration)

    # -- connections ---------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Client connections of all workers."""
        return sum(peer.connections for peer in self._peers)

    def deal(self, sock: socket.socket) -> bool:
        """Give a new connection to the process that has the fewest; False: it is for the owner."""
        peer = self._least()
        if peer is None or not self._configuration.fast_lane or peer.connections > self._own_connections():
            return False
        return peer.give(sock.fileno())

    @property
    def has_room(self) -> bool:
        """Whether a worker has clearly fewer connections than the owner."""
        peer = self._least()
        return peer is not None and peer.connections + 1 < self._own_connections()

    def give(self, shape: bytes, fd: int, first: bytes) -> bool:
        """Give a connection of the owner's to the worker that has the fewest, if that can answer this head shape.

        ``first`` are its unanswered bytes; ``fd`` stays the caller's to close.
        """
        peer, entry = self._least(), self._table.get(shape)
        return peer is not None and entry is not None and self._teach_one(peer, shape, entry) and peer.give(fd, first)

    def _balance(self) -> None:
        """Have workers that have clearly more connections than another process hand some back."""
        least = min((peer.connections for peer in self._peers), default=0)
        least = min(least, self._own_connections())
        for peer in self._peers:
            if peer.connections > least + 1:
                peer.say(Shed((peer.connections - least) // 2))

    def _least(self) -> Peer | None:
        return min(
            (peer for peer in self._peers if peer.silent_turns < _DOUBTED_TURNS),
            key=lambda peer: peer.connections,
            default=None,
        )

    def _on_hand_back(self, fd: int, first: bytes) -> None:
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        self._adopt(sock, first)

    # -- hot objects ---------------------------------------------------------------------------------------------

    def _teach(self, shape: bytes, entry: HotEntry) -> None:
        for peer in self._peers:
            self._teach_one(peer, shape, entry)

    def _teach_one(self, peer: Peer, shape: bytes, entry: HotEntry) -> bool:
        obj = entry.obj
        return isinstance(obj, StoredObject) and _lendable(obj, entry) and peer.teach(shape, obj, entry)

    def _clear(self) -> None:
        for peer in self._peers:
            peer.forget_shapes()

    def gone(self, obj: StoredObject) -> None:
        """An object is found no more, has lost pieces or has new fields: no worker answers from it as it was."""
        lost_pieces = not obj.obsolete and not _all_present(obj)
        for peer in self._peers:
            peer.withdraw(obj, cut=lost_pieces)

    async def withdraw(self, obj: StoredObject) -> bool:
        """Take an object back from every worker before its space is given up; False: one is still sending it."""
        for peer in self._living:
            peer.withdraw(obj, cut=False)
        replies = [reply for peer in self._living for reply in peer.replies(obj.object_id)]
        if replies:
            await asyncio.wait(replies, timeout=_REPLY_S)
        lent_again = any(peer.has(obj) for peer in self._living)
        return not lent_again and not self.keeps(obj.object_id)

    def keeps(self, object_id: str) -> bool:
        """Whether a worker may still be sending a withdrawn object."""
        return any(peer.keeps(object_id) for peer in self._living)

    # -- numbers -------------------------------------------------------------------------------------------------

    def _on_report(self, peer: Peer, report: Report, answered: int) -> None:
        self._absorb(report.tally)
        self.absorbed_requests += answered
        for number, first, stop in report.touched:
            obj = peer.lent(number)
            if obj is not None:
                self._touch(obj, first, stop)

    async def collect(self) -> None:
        """Until every worker has told what it has counted, but not for long."""
        waiting = [peer.collect() for peer in self._peers]
        if waiting:
            await asyncio.wait(waiting, timeout=_REPLY_S)

    def status(self, own_requests: int) -> list[dict[str, object]]:
        """Each process of the node, the owner first."""
        owner = {"pid": os.getpid(), "role": "owner", "requests": own_requests, "connections": self._own_connections()}
        return [
            owner,
            *(
                {"pid": peer.pid, "role": "worker", "requests": peer.requests, "connections": peer.connections}
                for peer in self._peers
            ),
        ]


def _all_present(obj: StoredObject) -> bool:
    length = obj.pieces.length_bytes
    return bool(length) and obj.pieces.present(0, length)


def _lendable(obj: StoredObject, entry: HotEntry) -> bool:
    """Whether nothing but an eviction, a purge or a new answer of the origin can change what a worker would send."""
    return obj.usable and obj.representation is entry.representation and _all_present(obj)
