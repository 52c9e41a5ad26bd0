"""The event loop's side of ``core.turns``: requests wait here for their turn, and hold it while they are under way.

Owns: the waiting futures, and the look at what each request under way does: without a head, or without being read, for
a second it is quiet. Must not decide who comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cacheserver.concurrency.awake import awake_s
from cacheserver.core.turns.origin import Limits
from cacheserver.core.turns.queue import Turns
from cacheserver.core.turns.shares import Priority, State, Turn
from cacheserver.fill.answer_facts import AnswerFacts
from cacheserver.ports import Take, UpstreamAnswer

QUIET_S = 1.0
LEFT_S = 60.0
"""How long the piece in hand is fetched for nobody."""
CROWDED_S = 0.25
"""The same while clients wait for a slot of the same origin."""


class Errand:
    """For whom a request is sent, and how urgent it is; ``slot`` is the one that it holds, taken already or not."""

    __slots__ = ("_left_s", "at_once", "check", "client", "priority", "slot")

    def __init__(
        self,
        client: str = "",
        priority: Priority = Priority.DEMANDED,
        *,
        slot: Slot | None = None,
        at_once: bool = False,
    ) -> None:
        self.client = client
        self.priority = priority
        self.slot = slot
        self.at_once = at_once
        """It is part of a request that holds a slot, which would wait for itself."""
        self.check: Callable[[], None] = lambda: None
        """Raises where the request is not to be sent any more, now that its turn has come."""
        self._left_s: float | None = None

    def holds(self, slot: Slot) -> None:
        """Its turn has come."""
        self.slot = slot
        slot.set_orphan(self._left_s is not None)

    def set_orphan(self, orphan: bool) -> None:
        """Whether nobody waits for what it brings."""
        if orphan is not (self._left_s is not None):
            self._left_s = awake_s() if orphan else None
        if self.slot is not None:
            self.slot.set_orphan(orphan)

    @property
    def is_given_up(self) -> bool:
        """Whether nobody has waited for what it brings for so long that its request may end: what has come stays."""
        if self._left_s is None:
            return False
        left_s = awake_s() - self._left_s
        return left_s > LEFT_S or (left_s > CROWDED_S and self.slot is not None and self.slot.is_missed)


class Slots:
    """All requests to origins that wait or are under way."""

    def __init__(self, limits: Limits, *, weight: Callable[[str], int] = lambda _client: 1) -> None:
        self.turns = Turns(limits, weight=weight)
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._tasks: dict[asyncio.Task[Any] | None, Turn] = {}

    async def take(self, origin: str, object_id: str, errand: Errand, *, at: int = 0, cost_bytes: int = 0) -> Slot:
        """Wait for a slot of ``origin``, for ``cost_bytes`` bytes of an object from ``at`` on. Give it back."""
        turn = Turn(origin, object_id, at=at, cost_bytes=cost_bytes)
        if errand.at_once:
            self.turns.take(turn, errand.client, self.now_s())
        else:
            self.turns.ask(turn, errand.client, errand.priority, self.now_s())
            self.deliver()
            if turn.state is State.WAITING:
                await self._turn_of(turn)
        slot = Slot(self, turn)
        errand.holds(slot)
        return slot

    async def _turn_of(self, turn: Turn) -> None:
        task = asyncio.current_task()
        self._waiting[turn] = asyncio.get_running_loop().create_future()
        self._tasks[task] = turn
        try:
            await self._waiting[turn]
        except BaseException:
            self.end(turn)
            raise
        finally:
            self._waiting.pop(turn, None)
            del self._tasks[task]

    def waits(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task waits for a slot, so that nothing was sent yet."""
        turn = self._tasks.get(task)
        return turn is not None and turn.state is State.WAITING

    def refuse(self, task: asyncio.Task[Any] | None, error: Exception) -> None:
        """Raise ``error`` in a task that waits for a slot: what it is to ask for is not needed any more."""
        turn = self._tasks.get(task)
        waiter = None if turn is None else self._waiting.get(turn)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def join(self, task: asyncio.Task[Any] | None, client: str) -> None:
        """A client waits for what this task is to ask for, if that waits for a slot."""
        if (turn := self._tasks.get(task)) is not None:
            self.turns.join(turn, client, Priority.DEMANDED)
            self.deliver()

    def span_pieces(self, origin: str) -> int:
        """Pieces that one request to this origin is to ask for."""
        return self.turns.origin(origin).line.span_pieces(self.turns.limits.span_pieces)

    def end(self, turn: Turn) -> None:
        """A turn is over, or nobody waits for it."""
        self.turns.end(turn, self.now_s())
        self.deliver()

    def deliver(self) -> None:
        """Wake those whose turn has come."""
        granted, self.turns.granted = self.turns.granted, []
        for turn in granted:
            waiter = self._waiting.get(turn)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def now_s(self) -> float:
        """The time in which the node was awake: what it slept through is nobody's silence."""
        return awake_s()


class Slot:
    """One slot that is held; ``give_back`` is idempotent."""

    __slots__ = ("_read_s", "_reading", "_slots", "_timer", "_turn")

    def __init__(self, slots: Slots, turn: Turn) -> None:
        self._slots = slots
        self._turn = turn
        self._reading = False
        self._read_s = slots.now_s()
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._look)

    @property
    def is_held(self) -> bool:
        """Whether it is not given back yet."""
        return self._turn.state is State.HELD

    @property
    def is_missed(self) -> bool:
        """Whether clients wait for a slot of the same origin."""
        return self._slots.turns.origin(self._turn.origin).waiting[Priority.DEMANDED] > 0

    def answered(self) -> None:
        """The head has come."""
        self._read_s = self._slots.now_s()
        self._slots.turns.answered(self._turn, self._read_s)
        self._slots.deliver()

    def reads(self) -> None:
        """The next bytes are waited for."""
        self._reading = True
        if self._turn.quiet:
            self._slots.turns.set_quiet(self._turn, False, self._slots.now_s())

    def has_read(self, count_bytes: int) -> None:
        """They have come."""
        self._reading, self._read_s = False, self._slots.now_s()
        if self.is_held:
            self._slots.turns.took(self._turn, count_bytes, self._read_s)
            self._slots.deliver()

    def set_orphan(self, orphan: bool) -> None:
        """Whether nobody waits for what it brings."""
        self._slots.turns.set_orphan(self._turn, orphan)
        self._slots.deliver()

    def give_back(self) -> None:
        """The request is over."""
        self._timer.cancel()
        self._slots.end(self._turn)

    def _look(self) -> None:
        """Every second: whether the request is silent, or is not being read."""
        now_s = self._slots.now_s()
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._look)
        if self._turn.quiet or self._reading or now_s - self._read_s < QUIET_S:
            return
        if self._turn.heard:
            self._slots.turns.set_quiet(self._turn, True, now_s)
        else:
            self._slots.turns.silent(self._turn, now_s)
        self._slots.deliver()


class AnswerInSlot(AnswerFacts):
    """An answer with the slot that it came by; see ``ports.UpstreamAnswer``."""

    def __init__(self, answer: UpstreamAnswer, slot: Slot) -> None:
        super().__init__(answer)
        self._answer = answer
        self.slot = slot
        slot.answered()

    async def read(self) -> bytes:
        """The next body bytes; the slot is free at their end."""
        self.slot.reads()
        data = await self._answer.read()
        self.slot.has_read(len(data))
        if not data:
            self.slot.give_back()
        return data

    async def receive(self, take: Take, most: int) -> int | None:
        """Have the next body bytes received; the slot is free when the answer is closed."""
        self.slot.reads()
        count = await self._answer.receive(take, most)
        if count is not None:
            self.slot.has_read(count)
        return count

    def close(self) -> None:
        """Give back answer and slot."""
        self._answer.close()
        self.slot.give_back()
