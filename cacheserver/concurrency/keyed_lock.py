"""One lock per key, for as long as somebody holds it or waits for it.

Owns: the locks. The holders of one key take turns in the order in which they asked; other keys do not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K")


class KeyedLock(Generic[K]):
    """Locks by key; a key that is not in use costs no memory."""

    def __init__(self) -> None:
        self._locks: dict[K, tuple[asyncio.Lock, int]] = {}
        """Lock, and the number of its holder and waiters."""

    def __contains__(self, key: K) -> bool:
        """Whether a task holds the lock of ``key`` or waits for it; without one, ``holding`` does not wait."""
        return key in self._locks

    @asynccontextmanager
    async def holding(self, key: K) -> AsyncIterator[None]:
        """Hold the lock of ``key`` for the length of a ``with`` block. A task must not ask for it twice."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
