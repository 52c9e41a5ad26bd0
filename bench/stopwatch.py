"""Exclusive time by room: wrappers around functions and coroutines of one thread, less what they cost themselves.

The time of a call belongs to its room, less that of wrapped calls inside it. Of a coroutine only its steps count, not
the time for which it is suspended. A call whose own time is longer than any step takes is left out: the system had put
the thread aside. What a wrapper costs inside and outside of its call is measured beforehand and taken off. A clock of
CPU time would need none of that, but costs a call into the kernel, as much as some steps. Must not know what it wraps.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

_CALIBRATION_CALLS = 20_000
_LONGEST_S = 0.002


@dataclass(slots=True)
class _Spent:
    """What one room has used. ``inner_calls``: wrapped calls that its own calls made."""

    seconds: float = 0.0
    calls: int = 0
    inner_calls: int = 0


class Stopwatch:
    """Collects the time of everything wrapped by it."""

    def __init__(self) -> None:
        self._spent: dict[str, _Spent] = {}
        self._stack: list[tuple[_Spent, list[float]]] = []
        self._cost_s = self._calibrate()
        self.reset()

    def reset(self) -> None:
        """Forget what was collected so far."""
        for spent in self._spent.values():
            spent.seconds, spent.calls, spent.inner_calls = 0.0, 0, 0

    def wrap(self, call: Callable[..., Any], room: str) -> Callable[..., Any]:
        """The same function or coroutine function; its time goes to ``room``."""
        spent = self._spent.setdefault(room, _Spent())
        if inspect.iscoroutinefunction(call):

            async def awaited(*args: Any, **named: Any) -> Any:
                return await _Steps(self, spent, call(*args, **named))

            return awaited

        def timed(*args: Any, **named: Any) -> Any:
            began = self._begin(spent)
            try:
                return call(*args, **named)
            finally:
                self._end(spent, began)

        return timed

    def rooms(self) -> dict[str, tuple[float, int]]:
        """By room: seconds of its own, without the wrappers' cost, and how often it was entered."""
        inside_s, outside_s = self._cost_s
        return {
            room: (spent.seconds - spent.calls * inside_s - spent.inner_calls * outside_s, spent.calls)
            for room, spent in self._spent.items()
        }

    def _begin(self, spent: _Spent) -> float:
        self._stack.append((spent, [0.0]))
        return time.perf_counter()

    def _end(self, spent: _Spent, began: float) -> None:
        took = time.perf_counter() - began
        _mine, inner = self._stack.pop()
        if took - inner[0] < _LONGEST_S:
            spent.seconds += took - inner[0]
        spent.calls += 1
        if self._stack:
            outer, inside = self._stack[-1]
            inside[0] += took
            outer.inner_calls += 1

    def _calibrate(self) -> tuple[float, float]:
        """Seconds that a wrapper adds to its own room and to the one around it."""
        empty = self.wrap(lambda: None, "calibration")
        plain_s = _loop_s(lambda: None)
        whole_s = _loop_s(empty)
        spent = self._spent.pop("calibration")
        inside_s = max(0.0, spent.seconds / spent.calls - plain_s)
        return inside_s, max(0.0, whole_s - plain_s - inside_s)


class _Steps:
    """Awaits a coroutine, each step of it on the watch."""

    def __init__(self, watch: Stopwatch, spent: _Spent, inner: Coroutine[Any, Any, Any]) -> None:
        self._watch, self._spent, self._inner = watch, spent, inner

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            began = self._watch._begin(self._spent)
            try:
                asked = self._inner.send(value) if error is None else self._inner.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self._watch._end(self._spent, began)
            value = error = None
            try:
                value = yield asked
            except BaseException as thrown:
                error = thrown


def _loop_s(call: Callable[[], Any]) -> float:
    """Seconds per call."""
    began = time.perf_counter()
    for _ in range(_CALIBRATION_CALLS):
        call()
    return (time.perf_counter() - began) / _CALIBRATION_CALLS
