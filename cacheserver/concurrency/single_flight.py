"""One task per key, however many callers ask.

Owns: the tasks under way and their cancellation. A task belongs to none of its callers: it goes on when they leave
(I7), and ends early only by ``stop``. Must not know what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from cacheserver.core.errors import Draining

K = TypeVar("K")
V = TypeVar("V")
Work = Callable[[], Coroutine[Any, Any, V]]


class SingleFlight(Generic[K, V]):
    """Runs at most one task per key; ``name`` begins the names of its tasks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._started_by: dict[asyncio.Task[V], object] = {}
        self._left: set[asyncio.Task[V]] = set()
        """Tasks under way that no further caller joins."""

    def __contains__(self, key: K) -> bool:
        """Whether a task for ``key`` is under way."""
        return key in self._tasks

    def is_started_by(self, key: K, by: object) -> bool:
        """Whether the task for ``key`` is under way and its starter named itself ``by``."""
        return key in self._tasks and self._started_by[self._tasks[key]] == by

    def start(self, key: K, work: Work[V], *, by: object = None) -> asyncio.Task[V]:
        """The task for ``key``, started now unless one is under way. Its exception is logged by no one: await it."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(work(), name=f"{self._name} {key}")
            self._tasks[key], self._started_by[task] = task, by
            task.add_done_callback(lambda done: self._ended(key, done))
        return task

    async def run(
        self,
        key: K,
        work: Work[V],
        *,
        by: object = None,
        on_cancelled: Callable[[asyncio.Task[V]], object] | None = None,
    ) -> V:
        """The outcome of the task for ``key``, started unless one is under way. Raises what it raises.

        A caller that is cancelled leaves the task running; ``on_cancelled`` then gets the task when it has ended.
        Raises Draining when ``stop`` ended the task.
        """
        task = self.start(key, work, by=by)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                raise Draining("the node is going down") from None
            if on_cancelled is not None:
                task.add_done_callback(on_cancelled)
            raise

    async def settled(self, key: K) -> None:
        """Wait until no task for ``key`` is under way; its outcome is not looked at."""
        task = self._tasks.get(key)
        if task is not None:
            await asyncio.wait((task,))

    def leave(self, key: K) -> None:
        """Let no further caller join the task for ``key``, if one is under way: the next one starts another."""
        task = self._tasks.pop(key, None)
        if task is not None:
            self._left.add(task)

    async def stop(self) -> None:
        """Cancel every task and wait for its end."""
        tasks = [*self._tasks.values(), *self._left]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: K, task: asyncio.Task[V]) -> None:
        self._left.discard(task)
        del self._started_by[task]
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved here, as every caller may have left
