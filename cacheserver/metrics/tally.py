"""Everything that is counted, as plain numbers by small tuples: cheap for a warm hit.

Owns: the numbers and the closed label sets of answers. A cell per label set costs about a tenth of three calls into a
metrics client. Written on one thread; another one may read at any time and sees counts that are at most one answer
apart from one another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from cacheserver.core.request.answer_record import AnswerRecord
from cacheserver.core.request.client import LISTENERS, PLAIN

OUTCOMES: Final = ("hit", "partial", "miss", "stale", "revalidated", "pass", "refused", "error")
HIT_OUTCOMES: Final = frozenset(("hit", "stale", "revalidated"))
NOT_SERVED: Final = frozenset(("refused", "error"))
OTHER: Final = "other"

CellKey: TypeAlias = tuple[str, str, int, str]
"""Service, outcome, status class (1 to 5, or 0), listener."""
GROUPS_LIMIT: Final = 4096
"""Pairs of subnet and outcome with series of their own, such as 1,024 with four each; the rest is ``other``."""
_KNOWN_LIMIT: Final = 8192
SERVICES_LIMIT: Final = 32
"""Service names with series of their own; an operator with more sees the rest as ``other``."""
DURATION_BUCKETS_S: Final = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0)


class Durations:
    """Answers by duration: ``buckets[i]`` took at most ``bounds_s[i]`` seconds, the last one longer than all."""

    __slots__ = ("bounds_s", "buckets", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.buckets = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one."""
        self.sum_s += duration_s
        self.buckets[bisect_left(self.bounds_s, duration_s)] += 1


class Times:
    """Durations of one outcome. ``at_once``: first and last byte went out together, so one number says both."""

    __slots__ = ("at_once", "first_byte", "total")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.at_once, self.total, self.first_byte = (Durations(bounds_s) for _ in range(3))


@dataclass(slots=True, eq=False)
class Sums:
    """What was counted for one key."""

    count: int = 0
    body_bytes: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Cell(Sums):
    """The same with the times of its outcome."""

    times: Times


class Tally:
    """Counts answers and events. ``bounds_s`` are the upper bounds of the duration buckets, ascending."""

    def __init__(
        self, *, bounds_s: tuple[float, ...] = DURATION_BUCKETS_S, services_limit: int = SERVICES_LIMIT
    ) -> None:
        self._limit = services_limit
        self._services: set[str] = set()
        self._subnets: frozenset[str] = frozenset()
        self._cells: dict[CellKey, Cell] = {}
        self._groups: dict[tuple[str, str], Sums] = {}
        self._known: dict[tuple[str, str, int, str, str], tuple[Cell, Sums]] = {}
        """What an answer counts in, so that a warm hit looks up once."""
        self._times = defaultdict[str, Times](lambda: Times(bounds_s))
        self._counts: dict[tuple[str, ...], int] = {}

    def allow_services(self, names: Iterable[str]) -> None:
        """Count these names apart, up to the limit in all, and the rest as ``other``; call it again after a reload."""
        for name in names:
            if len(self._services) < self._limit:
                self._services.add(name)
        self._known.clear()

    def allow_subnets(self, names: Iterable[str]) -> None:
        """Count these groups apart from now on, and all others as ``other``."""
        self._subnets = frozenset(names)
        self._known.clear()

    def service(self, name: str) -> str:
        """``name`` where it is counted apart, else ``other``."""
        return name if name in self._services else OTHER

    def add(self, answer: AnswerRecord) -> None:
        """Count one answer."""
        client = answer.client
        key = (answer.request.service, answer.outcome, answer.status // 100, client.listener, client.subnet)
        cell, group = self._known.get(key) or self._find(key)
        cell.count += 1
        group.count += 1
        if answer.body_bytes > 0:
            body_bytes = answer.body_bytes - answer.booked_bytes
            cell.body_bytes += body_bytes
            group.body_bytes += body_bytes
        duration_s = answer.duration_s
        if answer.first_byte_s is None:
            durations = cell.times.at_once
            durations.sum_s += duration_s
            durations.buckets[bisect_left(durations.bounds_s, duration_s)] += 1
        else:
            cell.times.total.add(duration_s)
            cell.times.first_byte.add(answer.first_byte_s)

    def book(self, answer: AnswerRecord) -> None:
        """Count the bytes of one that is under way; ``add`` counts the rest, under what it has come to by then."""
        client = answer.client
        key = (answer.request.service, answer.outcome, answer.status // 100, client.listener, client.subnet)
        for sums in self._known.get(key) or self._find(key):
            sums.body_bytes += answer.body_bytes - answer.booked_bytes

    def count(self, key: tuple[str, ...], amount: int = 1) -> None:
        """Add to one number; ``key`` is a metric and its label values, which the caller keeps to closed sets."""
        self._counts[key] = self._counts.get(key, 0) + amount

    # -- reading ------------------------------------------------------------------------------------------------

    def cells(self) -> list[tuple[CellKey, Cell]]:
        """Every key and its cell."""
        return list(self._cells.items())

    def groups(self) -> list[tuple[tuple[str, str], Sums]]:
        """Every subnet and outcome, and its sums."""
        return list(self._groups.items())

    def times(self) -> list[tuple[str, Times]]:
        """Durations by outcome."""
        return list(self._times.items())

    def counts(self) -> list[tuple[tuple[str, ...], int]]:
        """Every number and its key."""
        return list(self._counts.items())

    def hit_ratio_requests(self) -> float:
        """Share of hits (stale and revalidated included) in all answers but refused ones; 0 before the first."""
        counts = [(key[1], cell.count) for key, cell in self.cells() if key[1] != "refused"]
        total = sum(count for _, count in counts)
        return sum(count for outcome, count in counts if outcome in HIT_OUTCOMES) / total if total else 0.0

    def body_bytes(self) -> int:
        """Body bytes that reached clients since the start."""
        return sum(cell.body_bytes for _, cell in self.cells())

    # -- cells --------------------------------------------------------------------------------------------------

    def _find(self, key: tuple[str, str, int, str, str]) -> tuple[Cell, Sums]:
        """The cell and the sums of an answer, with every value outside its closed set made ``other``."""
        service, outcome, status_class, listener, subnet = key
        outcome = outcome if outcome in OUTCOMES else OTHER
        place = (
            self.service(service),
            outcome,
            status_class if 1 <= status_class <= 5 else 0,
            listener if listener in LISTENERS else PLAIN,
        )
        if place not in self._cells:
            self._cells[place] = Cell(times=self._times[outcome])
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()
        found = self._known[key] = self._cells[place], self._group(subnet, outcome)
        return found

    def _group(self, subnet: str, outcome: str) -> Sums:
        pair = (subnet, outcome)
        if subnet not in self._subnets or (pair not in self._groups and len(self._groups) >= GROUPS_LIMIT):
            pair = (OTHER, outcome)
        return self._groups.setdefault(pair, Sums())
