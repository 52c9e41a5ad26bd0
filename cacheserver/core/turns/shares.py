"""Turns that wait, in fair order: by client, then by object, then by their place in it.

Owns: the order inside one client's queue at one origin (start-time fair queueing by bytes), in O(log n) a turn. Turns
that have ended are passed over. Must not know limits. Pure.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import count
from operator import itemgetter

LEAST_COST_BYTES = 1 << 14
"""What a request is charged at the least."""
_OBJECTS_KEPT = 256
_order = count()


class Priority(IntEnum):
    """Who goes first; lower is sooner."""

    DEMANDED = 0
    """A client waits for exactly this."""
    READ_AHEAD = 1
    BACKGROUND = 2
    """Content that no client waits for."""


class State(Enum):
    """Where a turn is."""

    WAITING = "waiting"
    HELD = "held"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class Turn:
    """One request for a slot of ``origin``: for the bytes of ``object_id`` from ``at`` on, ``cost_bytes`` of them."""

    origin: str
    object_id: str
    at: int = 0
    cost_bytes: int = LEAST_COST_BYTES
    state: State = State.WAITING
    heard: bool = False
    """Whether the head of its answer has come."""
    quiet: bool = False
    orphan: bool = False
    taken_bytes: int = 0
    asked_s: float = 0.0
    places: list[tuple[Flow, Priority]] = field(default_factory=list)
    """Where it waits: one client's queue after another has joined the request of the first."""
    holder: Flow | None = None
    """Who is charged."""


class _Object:
    __slots__ = ("entry", "live", "turns")

    def __init__(self) -> None:
        self.turns: list[tuple[int, int, Turn]] = []
        self.live = 0
        self.entry = -1

    def first(self) -> Turn:
        """The live turn that is the first in the object; there is one."""
        while self.turns[0][2].state is not State.WAITING:
            heapq.heappop(self.turns)
        return self.turns[0][2]


class Backlog:
    """The turns of one client at one origin that have one priority; objects share it by bytes."""

    def __init__(self) -> None:
        self.live = 0
        self._objects: dict[str, _Object] = {}
        self._heap: list[tuple[float, int, str]] = []

    def add(self, turn: Turn, start: float) -> None:
        """Queue a turn of an object whose next bytes are due at ``start``."""
        found = self._objects.get(turn.object_id)
        if found is None:
            found = self._objects[turn.object_id] = _Object()
            found.entry = next(_order)
            heapq.heappush(self._heap, (start, found.entry, turn.object_id))
        heapq.heappush(found.turns, (turn.at, next(_order), turn))
        found.live += 1
        self.live += 1

    def left(self, turn: Turn) -> None:
        """A turn waits here no more."""
        found = self._objects[turn.object_id]
        found.live -= 1
        self.live -= 1
        if not found.live:
            del self._objects[turn.object_id]
            if len(self._heap) > 2 * len(self._objects) + 64:
                self._heap = [entry for entry in self._heap if self._is_current(entry)]
                heapq.heapify(self._heap)

    def next(self, finish: dict[str, float]) -> Turn:
        """The turn whose turn it is; it stays. ``finish``: when objects are due again."""
        while True:
            start, entry, object_id = self._heap[0]
            if not self._is_current(self._heap[0]):
                heapq.heappop(self._heap)
            elif finish.get(object_id, start) > start:
                heapq.heapreplace(self._heap, (finish[object_id], entry, object_id))
            else:
                return self._objects[object_id].first()

    def first_of(self, object_id: str) -> Turn | None:
        """The turn of an object that comes first of its; it stays."""
        found = self._objects.get(object_id)
        return None if found is None else found.first()

    def _is_current(self, entry: tuple[float, int, str]) -> bool:
        found = self._objects.get(entry[2])
        return found is not None and found.entry == entry[1]


class Client:
    """One client, at all origins."""

    __slots__ = ("flows", "name", "parked", "quiet", "used", "weight")

    def __init__(self, name: str, weight: int) -> None:
        self.name = name
        self.weight = weight
        self.used = self.quiet = self.flows = 0
        self.parked: deque[Flow] = deque()
        """Its flows that were due when it had too much."""


class Flow:
    """One client at one origin: what it holds there, and what of it waits."""

    __slots__ = (
        "backlogs", "client", "entries", "finish", "level", "objects", "origin", "orphans", "parked", "quiet", "used",
    )  # fmt: skip

    def __init__(self, client: Client, origin: str, start: float) -> None:
        self.client = client
        self.origin = origin
        self.used = self.quiet = self.orphans = 0
        self.finish = start
        """When it is due again, in bytes by weight."""
        self.level = 0.0
        self.objects: dict[str, float] = {}
        """When its objects are due again."""
        self.backlogs = tuple(Backlog() for _ in Priority)
        self.entries = [-1, -1, -1]
        """Its place in the origin's heaps; -1: in none."""
        self.parked = False

    @property
    def waits(self) -> bool:
        """Whether a turn of it waits."""
        return any(backlog.live for backlog in self.backlogs)

    def due(self, object_id: str) -> float:
        """When an object's next bytes are due among this client's: new ones come before those that had some."""
        return max(self.level, self.objects.get(object_id, self.level))

    def charge(self, turn: Turn, now: float) -> float:
        """It was served when the origin's time was ``now``; the origin's time from then on."""
        start = max(now, self.finish)
        self.finish = start + turn.cost_bytes / self.client.weight
        self.level = self.due(turn.object_id)
        self.objects[turn.object_id] = self.level + turn.cost_bytes
        if len(self.objects) > 2 * _OBJECTS_KEPT:  # those that had least are as good as new
            self.objects = dict(heapq.nlargest(_OBJECTS_KEPT, self.objects.items(), key=itemgetter(1)))
        return start

    def settle(self, turn: Turn) -> None:
        """A turn has ended: what it took counts, not what it asked for."""
        more_bytes = max(LEAST_COST_BYTES, turn.taken_bytes) - turn.cost_bytes
        self.finish += more_bytes / self.client.weight
        if turn.object_id in self.objects:
            self.objects[turn.object_id] += more_bytes
