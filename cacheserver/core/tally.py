"""Counts of answers by service, outcome and status class, cheap enough for every warm hit.

Owns: the numbers and the closed label sets. A plain cell per label set costs about a tenth of three calls into a
metrics client. Written on one thread; another one may read at any time and sees counts that are at most one answer
apart from one another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import msgspec

OUTCOMES: Final = ("hit", "partial", "miss", "stale", "revalidated", "pass", "refused", "error")
HIT_OUTCOMES: Final = frozenset(("hit", "stale", "revalidated"))
OTHER: Final = "other"
SERVICES_LIMIT: Final = 32
"""Service names with series of their own; an operator with more sees the rest as ``other``."""
DURATION_BUCKETS_S: Final = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0)


class _Taken(msgspec.Struct, array_like=True):
    """What ``take`` gives: cells with count and bytes, durations with sum and buckets."""

    cells: list[tuple[str, str, int, int, int]]
    durations: list[tuple[str, float, list[int]]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Taken).decode


class Durations:
    """Answers by duration: ``buckets[i]`` took at most ``bounds_s[i]`` seconds, the last one longer than all."""

    __slots__ = ("bounds_s", "buckets", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.buckets = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0


class Cell:
    """What was counted for one (service, outcome, status class)."""

    __slots__ = ("body_bytes", "count", "durations")

    def __init__(self, durations: Durations) -> None:
        self.count = 0
        self.body_bytes = 0
        self.durations = durations


class Tally:
    """Counts answers. ``bounds_s`` are the upper bounds of the duration buckets, ascending."""

    def __init__(self, *, bounds_s: tuple[float, ...], services_limit: int) -> None:
        self._bounds_s = bounds_s
        self._limit = services_limit
        self._services: set[str] = set()
        self._cells: dict[tuple[str, str, int], Cell] = {}
        self._durations: dict[str, Durations] = {}

    @classmethod
    def of_answers(cls) -> Tally:
        """An empty tally with the bounds that all processes of a node share."""
        return cls(bounds_s=DURATION_BUCKETS_S, services_limit=SERVICES_LIMIT)

    def take(self) -> bytes:
        """What was counted since the last take, for another tally to ``absorb``; begins anew."""
        cells = [(*key, cell.count, cell.body_bytes) for key, cell in self._cells.items()]
        durations = [(word, durations.sum_s, durations.buckets) for word, durations in self._durations.items()]
        self._cells, self._durations = {}, {}
        return _encode(_Taken(cells, durations))

    def absorb(self, taken: bytes) -> None:
        """Add what another tally has taken."""
        what = _decode(taken)
        for service, outcome, status_class, count, body_bytes in what.cells:
            cell = self._cell(service, outcome, status_class)
            cell.count += count
            cell.body_bytes += body_bytes
        for word, sum_s, buckets in what.durations:
            durations = self._durations.setdefault(word, Durations(self._bounds_s))
            durations.sum_s += sum_s
            durations.buckets = [ours + theirs for ours, theirs in zip(durations.buckets, buckets, strict=True)]

    def allow_services(self, names: Iterable[str]) -> None:
        """Count these names apart, up to the limit in all; the rest is counted as ``other``."""
        for name in names:
            if len(self._services) < self._limit:
                self._services.add(name)

    def service(self, name: str) -> str:
        """``name`` where it is counted apart, else ``other``."""
        return name if name in self._services else OTHER

    def add(self, service: str, outcome: str, status: int, body_bytes: int, duration_s: float) -> None:
        """Count one answer."""
        cell = self._cells.get((service, outcome, status // 100)) or self._cell(service, outcome, status // 100)
        cell.count += 1
        cell.body_bytes += body_bytes
        durations = cell.durations
        durations.sum_s += duration_s
        durations.buckets[bisect_left(durations.bounds_s, duration_s)] += 1

    def cells(self) -> list[tuple[tuple[str, str, int], Cell]]:
        """Every (service, outcome, status class from 1 to 5, or 0) and its cell."""
        return list(self._cells.items())

    def durations(self) -> list[tuple[str, Durations]]:
        """Durations by outcome."""
        return list(self._durations.items())

    def hit_ratio_requests(self) -> float:
        """Share of hits (stale and revalidated included) in all answers but refused ones; 0 before the first."""
        counts = [(outcome, cell.count) for (_, outcome, _), cell in self.cells() if outcome != "refused"]
        total = sum(count for _, count in counts)
        return sum(count for outcome, count in counts if outcome in HIT_OUTCOMES) / total if total else 0.0

    def answers(self) -> int:
        """Number of all answers."""
        return sum(cell.count for _, cell in self.cells())

    def body_bytes(self) -> int:
        """Bytes of all answers."""
        return sum(cell.body_bytes for _, cell in self.cells())

    def _cell(self, service: str, outcome: str, status_class: int) -> Cell:
        word = outcome if outcome in OUTCOMES else OTHER
        key = (self.service(service), word, status_class if 1 <= status_class <= 5 else 0)
        cell = self._cells.get(key)
        if cell is None:
            durations = self._durations.setdefault(word, Durations(self._bounds_s))
            cell = self._cells[key] = Cell(durations)
        return cell
