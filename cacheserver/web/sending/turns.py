"""Whose turn it is to send a large part.

Owns: the order of waiting senders, and how many send before the event loop polls again. Without it a moment in which
many sockets take more would be one long pass of the loop, and the smallest hit would wait for it. Must not know bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from cacheserver.ports import Clock

_ROUND_TURNS = 4
_ROUND_S = 0.001
"""A round ends early after that long: the processor may have been taken away in the midst of it."""

GoOn = Callable[[], None]


def resolve(waiter: asyncio.Future[None] | None) -> None:
    """Wake the coroutine that waits, if one does."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Turns:
    """The turns of all connections of one event loop."""

    __slots__ = ("_clock", "_left", "_round_is_due", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[GoOn] = deque()
        self._left = _ROUND_TURNS
        self._round_is_due = False

    def now(self, go_on: GoOn) -> None:
        """Call ``go_on`` at once when no other waits and few have begun at once since, else in its turn."""
        if self._waiting or not self._left:
            self.soon(go_on)
            return
        self._left -= 1
        go_on()

    def soon(self, go_on: GoOn) -> None:
        """Call ``go_on`` in its turn, after those that wait already."""
        self._waiting.append(go_on)
        self._have_a_round()

    def mine(self) -> asyncio.Future[None]:
        """The same for a coroutine: it is its turn when this is done."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.soon(partial(resolve, turn))
        return turn

    def _round(self) -> None:
        """Give some their turn; a sender that asks again during it comes after all that wait."""
        waiting, until_s = self._waiting, self._clock.monotonic_s() + _ROUND_S
        self._left = _ROUND_TURNS
        self._round_is_due = False
        try:
            for number in range(min(_ROUND_TURNS, len(waiting))):
                if number and self._clock.monotonic_s() >= until_s:
                    break
                waiting.popleft()()
        finally:
            if waiting:
                self._have_a_round()

    def _have_a_round(self) -> None:
        if not self._round_is_due:
            self._round_is_due = True
            asyncio.get_running_loop().call_soon(self._round)
