"""The decisions of a fetch by pieces, as a state machine: which piece from which source, what a bad one costs.

Owns: the queue of pieces, the health of each source, bans. Pure: the caller passes the time and does the asking. Rules:
cache hosts before the origin; a bad piece is a strike against its source and is fetched from another one; three strikes
ban a source for this fetch; a client error bans it at once; other faults let it rest, longer each time, and ban it when
they do not end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cacheserver.fetch.sources import Source

STRIKES_TO_BAN = 3
FAULTS_TO_BAN = 5
FIRST_REST_S = 0.2
_LOOK_AHEAD = 16


@dataclass(slots=True)
class SourceHealth:
    """What is known of one source. ``banned`` is the reason, None while it may be asked."""

    source: Source
    pieces: int = 0
    body_bytes: int = 0
    strikes: int = 0
    faults: int = 0
    """Faults in a row."""
    last_fault: str = ""
    banned: str | None = None
    in_flight: int = 0
    rest_until_s: float = 0.0
    last_fault_s: float = float("-inf")

    def fault(self, reason: str, *, started_s: float, now_s: float) -> None:
        """Note a fault of a request begun at ``started_s``; requests that failed together count as one."""
        self.last_fault = reason
        if started_s <= self.last_fault_s or self.banned is not None:
            return
        self.faults += 1
        self.last_fault_s = now_s
        self.rest_until_s = now_s + FIRST_REST_S * 2 ** (self.faults - 1)
        if self.faults >= FAULTS_TO_BAN:
            self.banned = reason


@dataclass(frozen=True, slots=True)
class Ask:
    """Fetch ``piece`` from ``source`` now; hand this value back with the outcome."""

    piece: int
    source: Source
    started_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to ask now; look again after ``rest_s`` or when a request ends. None: only when one ends."""

    rest_s: float | None


@dataclass(frozen=True, slots=True)
class Complete:
    """Every piece is there."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Pieces are missing and every source is banned."""

    reason: str


Step = Ask | Wait | Complete | Hopeless


@dataclass(slots=True)
class PieceWorkflow:
    """The state of one fetch by pieces."""

    sources: Sequence[Source]
    piece_count: int
    have: Iterable[int] = ()
    health: dict[Source, SourceHealth] = field(init=False)
    done: set[int] = field(init=False)
    _todo: list[int] = field(init=False)
    _failed_at: dict[int, set[Source]] = field(init=False, default_factory=dict)
    _in_flight: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.health = {source: SourceHealth(source) for source in self.sources}
        self.done = set(self.have)
        self._todo = [piece for piece in range(self.piece_count) if piece not in self.done]

    def next(self, now_s: float) -> Step:
        """What to do next."""
        if len(self.done) == self.piece_count:
            return Complete()
        usable = [health for health in self.health.values() if health.banned is None]
        if not usable and not self._in_flight:
            return Hopeless("; ".join(f"{each.source.name}: {each.banned}" for each in self.health.values()))
        if not self._todo or not usable:
            return Wait(None)
        rest_until_s = float("inf")
        for piece in self._first_todo():
            fresh = self._fresh(piece, usable)
            ready = [health for health in fresh if health.rest_until_s <= now_s]
            if ready:
                return self._ask(
                    piece, min(ready, key=lambda each: (not each.source.cache_host, each.in_flight)), now_s
                )
            rest_until_s = min(rest_until_s, *(health.rest_until_s for health in fresh))
        return Wait(rest_until_s - now_s)

    def _first_todo(self) -> Iterator[int]:
        """The first pieces to do; the second and further ones are looked up only where the first has to wait."""
        yield self._todo[0]
        yield from heapq.nsmallest(_LOOK_AHEAD, self._todo)[1:]

    def _fresh(self, piece: int, usable: list[SourceHealth]) -> list[SourceHealth]:
        """The usable sources that have not failed a piece; all of them once each has."""
        failed = self._failed_at.get(piece, set())
        return [health for health in usable if health.source not in failed] or usable

    def _ask(self, piece: int, health: SourceHealth, now_s: float) -> Ask:
        if piece == self._todo[0]:
            heapq.heappop(self._todo)
        else:
            self._todo.remove(piece)
            heapq.heapify(self._todo)
        if health.source in self._failed_at.get(piece, ()):
            del self._failed_at[piece]
        health.in_flight += 1
        self._in_flight += 1
        return Ask(piece, health.source, now_s)

    def good(self, ask: Ask, size_bytes: int) -> None:
        """The piece's digest matched and it is written."""
        health = self._ended(ask)
        health.pieces += 1
        health.body_bytes += size_bytes
        health.faults = 0
        self.done.add(ask.piece)
        self._failed_at.pop(ask.piece, None)

    def bad(self, ask: Ask) -> str:
        """The piece's digest did not match: one line that says what follows."""
        health = self._ended(ask)
        health.strikes += 1
        if health.strikes >= STRIKES_TO_BAN and health.banned is None:
            health.banned = f"{health.strikes} bad pieces"
        self._again(ask)
        fate = "banned" if health.banned else f"strike {health.strikes} of {STRIKES_TO_BAN}"
        return f"piece {ask.piece} from {ask.source.name} does not match its hash: discarded, {fate}"

    def faulty(self, ask: Ask, reason: str, now_s: float) -> str:
        """The request failed in a way that may pass."""
        health = self._ended(ask)
        health.fault(reason, started_s=ask.started_s, now_s=now_s)
        self._again(ask)
        return f"piece {ask.piece} from {ask.source.name}: {reason}" + (": banned" if health.banned else "")

    def refused(self, ask: Ask, reason: str) -> str:
        """The source does not serve this content: it is not asked again."""
        health = self._ended(ask)
        health.banned = reason
        self._again(ask)
        return f"{ask.source.name}: {reason}: not asked again"

    def _ended(self, ask: Ask) -> SourceHealth:
        health = self.health[ask.source]
        health.in_flight -= 1
        self._in_flight -= 1
        return health

    def _again(self, ask: Ask) -> None:
        self._failed_at.setdefault(ask.piece, set()).add(ask.source)
        heapq.heappush(self._todo, ask.piece)
