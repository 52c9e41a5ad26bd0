"""Memories that neither grow without end nor keep what is too old.

Owns: the bound and the order in which entries go. Time is handed in. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMemory(Generic[K, V]):
    """At most ``limit`` values by key, each until a time of its own; the one kept or touched longest ago goes first.

    ``weigh`` and ``weight_limit`` bound the sum of the weights too.
    """

    def __init__(self, limit: int, *, weigh: Callable[[V], int] | None = None, weight_limit: int = 0) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight_limit = weight_limit
        self._weight = 0
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        """Sum of the weights."""
        return self._weight

    def get(self, key: K, now_s: float = 0.0) -> V | None:
        """The value of ``key``, if it is kept and ``now_s`` is before its end."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and now_s < entry[1] else None

    def keep(self, key: K, value: V, until_s: float = float("inf")) -> None:
        """Keep ``value`` for ``key`` until ``until_s``; what was kept longest ago makes room."""
        self.forget(key)
        self._entries[key] = (value, until_s)
        if self._weigh is not None:
            self._weight += self._weigh(value)
        while len(self._entries) > self._limit or self._weight > self._weight_limit:
            self.forget(next(iter(self._entries)))

    def touch(self, key: K) -> None:
        """Have ``key`` go last; nothing where it is not kept."""
        if key in self._entries:
            self._entries.move_to_end(key)

    def forget(self, key: K) -> None:
        """Keep nothing for ``key``."""
        entry = self._entries.pop(key, None)
        if entry is not None and self._weigh is not None:
            self._weight -= self._weigh(entry[0])

    def clear(self) -> None:
        """Keep nothing."""
        self._entries.clear()
        self._weight = 0

    def items(self) -> Iterator[tuple[K, V]]:
        """Every key and value, longest kept first, whatever their ends; a copy, so another thread may ask."""
        return iter([(key, value) for key, (value, _until_s) in list(self._entries.items())])
