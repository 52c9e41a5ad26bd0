"""Time in which the node was awake: while its machine is suspended or stopped it stands still, and the clock runs on.

Owns: this time, and deadlines by it. What others did not do while the node stood still is not held against them.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final
from weakref import WeakKeyDictionary

_TICK_S: Final = 1.0
_LATE_S: Final = 2.0
"""A tick that comes so late tells that nothing ran; a loop that is merely busy is not so late."""


class _Awake:
    """Of one loop: when it ticked last, and for how long it stood still in all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ticked_s = loop.time()
        self._still_s = 0.0
        self._timer = loop.call_later(_TICK_S, self._tick)

    def now_s(self) -> float:
        now_s = self._loop.time()
        return (self._ticked_s if now_s - self._ticked_s > _LATE_S else now_s) - self._still_s

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        now_s = self._loop.time()
        if now_s - self._ticked_s > _LATE_S:
            self._still_s += now_s - self._ticked_s
        self._ticked_s = now_s
        self._timer = self._loop.call_later(_TICK_S, self._tick)


_awake: WeakKeyDictionary[asyncio.AbstractEventLoop, _Awake] = WeakKeyDictionary()


def watch() -> None:
    """Notice from now on when this loop stands still."""
    loop = asyncio.get_running_loop()
    _awake[loop] = _Awake(loop)


def unwatch() -> None:
    """Notice no more."""
    watched = _awake.pop(asyncio.get_running_loop(), None)
    if watched is not None:
        watched.stop()


def awake_s() -> float:
    """Seconds of the loop's clock, less those in which it stood still."""
    loop = asyncio.get_running_loop()
    watched = _awake.get(loop)
    return loop.time() if watched is None else watched.now_s()


class awake_timeout:  # noqa: N801 - as ``asyncio.timeout``, which it stands in for
    """``asyncio.timeout`` by ``awake_s``; ``limit_s`` None: for ever."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> awake_timeout:
        await self._timeout.__aenter__()
        if self._limit_s is not None:
            self._ends_s = awake_s() + self._limit_s
            self._wait(self._limit_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        """Raise TimeoutError where the time was over."""
        self.lift()
        await self._timeout.__aexit__(kind, exc, at)

    @property
    def pending(self) -> bool:
        """Whether it may still end its block."""
        return self._timer is not None

    def lift(self) -> None:
        """Let the rest of the block take its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        left_s = self._ends_s - awake_s()
        if left_s > 0.001:
            self._wait(left_s)
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())
