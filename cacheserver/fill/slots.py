"""How many upstream requests may run at once, per origin and in all; the most urgent waits least.

Owns: the queue. "Finish some rather than share the link equally": a request keeps its slot to its end.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count


class Priority(IntEnum):
    """Who goes first; lower is sooner."""

    DEMANDED = 0
    """A client waits for exactly this."""
    READ_AHEAD = 1
    BACKGROUND = 2
    """Content that no client waits for."""


class Slots:
    """Counting semaphores per origin and in all, with priorities."""

    def __init__(self, *, per_origin: int, total: int) -> None:
        self._per_origin = per_origin
        self._total = total
        self._used: Counter[str] = Counter()
        self._waiting: list[tuple[int, int, str, asyncio.Future[None]]] = []
        self._order = count()

    @asynccontextmanager
    async def slot(self, origin: str, priority: Priority, *, at_once: bool = False) -> AsyncIterator[None]:
        """Hold one slot of ``origin``; waits its turn, unless its answer is open already (``at_once``)."""
        if not at_once and (self._waiting or not self._has_room(origin)):
            await self._wait(origin, priority)
        else:
            self._used[origin] += 1
        try:
            yield
        finally:
            self._give_back(origin)

    async def _wait(self, origin: str, priority: Priority) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), origin, turn))
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(origin)
            raise

    def _has_room(self, origin: str) -> bool:
        return self._used[origin] < self._per_origin and self._used.total() < self._total

    def _give_back(self, origin: str) -> None:
        self._used[origin] -= 1
        if not self._used[origin]:
            del self._used[origin]
        self._hand_out()

    def _hand_out(self) -> None:
        passed_over = []
        while self._waiting and self._used.total() < self._total:
            entry = heapq.heappop(self._waiting)
            _priority, _order, origin, turn = entry
            if turn.done():
                continue
            if self._has_room(origin):
                self._used[origin] += 1
                turn.set_result(None)
            else:
                passed_over.append(entry)
        for entry in passed_over:
            heapq.heappush(self._waiting, entry)
