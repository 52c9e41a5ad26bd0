"""The decisions of a fetch by pieces, as a state machine: which piece from which source, what a bad one costs.

Owns: the queue of pieces, and which source gets which. Pure: the caller passes the time and does the asking. Rules:
cache hosts before the origin; a piece that failed at one source is fetched from another; ``standing`` says which
sources may be asked.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cacheserver.core.cache.source_health import STRIKES_TO_BAN
from cacheserver.core.cache.sources import NODE, Source
from cacheserver.fetch.standing import Hopeless, Standing, hopeless, usable

_LOOK_AHEAD = 16


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


Step = Ask | Wait | Complete | Hopeless


@dataclass(slots=True)
class PieceWorkflow:
    """The state of one fetch by pieces."""

    sources: Sequence[Source]
    piece_count: int
    have: Iterable[int] = ()
    health: dict[Source, Standing] = field(init=False)
    done: set[int] = field(init=False)
    _todo: list[int] = field(init=False)
    """In order."""
    _failed_at: dict[int, set[Source]] = field(init=False, default_factory=dict)
    _in_flight: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.health = {source: Standing(source) for source in self.sources}
        self.done = set(self.have)
        self._todo = [piece for piece in range(self.piece_count) if piece not in self.done]

    def next(self, now_s: float) -> Step:
        """What to do next."""
        if len(self.done) == self.piece_count:
            return Complete()
        askable = usable(self.health)
        if not askable and not self._in_flight:
            return hopeless(self.health)
        if not self._todo or not askable:
            return Wait(None)
        rest_until_s = float("inf")
        for piece in self._todo[:_LOOK_AHEAD]:
            fresh = self._fresh(piece, askable)
            ready = [health for health in fresh if health.rest_until_s <= now_s]
            if ready:
                best = min(ready, key=lambda each: (each.source.kind != NODE, each.in_flight))
                return self._ask(piece, best, now_s)
            rest_until_s = min(rest_until_s, *(health.rest_until_s for health in fresh))
        return Wait(rest_until_s - now_s)

    def _fresh(self, piece: int, askable: list[Standing]) -> list[Standing]:
        """The sources that have not failed a piece; all of them once each has."""
        failed = self._failed_at.get(piece, set())
        return [health for health in askable if health.source not in failed] or askable

    def _ask(self, piece: int, health: Standing, now_s: float) -> Ask:
        self._todo.remove(piece)  # among the first _LOOK_AHEAD
        if health.source in self._failed_at.get(piece, ()):
            del self._failed_at[piece]
        health.in_flight += 1
        self._in_flight += 1
        return Ask(piece, health.source, now_s)

    def good(self, ask: Ask, size_bytes: int) -> None:
        """The piece's digest matched and it is written."""
        health = self._ended(ask)
        health.pieces += 1
        health.good(size_bytes)
        self.done.add(ask.piece)
        self._failed_at.pop(ask.piece, None)

    def bad(self, ask: Ask) -> str:
        """The piece's digest did not match: one line that says what follows."""
        health = self._ended(ask)
        health.strike()
        self._again(ask)
        fate = "banned" if health.banned else f"strike {health.strikes} of {STRIKES_TO_BAN}"
        return f"piece {ask.piece} from {ask.source.origin} does not match its hash: discarded, {fate}"

    def faulty(self, ask: Ask, reason: str, now_s: float) -> str:
        """The request failed in a way that may pass."""
        health = self._ended(ask)
        health.fault(reason, started_s=ask.started_s, now_s=now_s)
        self._again(ask)
        return f"piece {ask.piece} from {ask.source.origin}: {reason}" + (": banned" if health.banned else "")

    def refused(self, ask: Ask, reason: str) -> str:
        """The source does not serve this content: it is not asked again."""
        line = self._ended(ask).refuse(reason)
        self._again(ask)
        return line

    def _ended(self, ask: Ask) -> Standing:
        health = self.health[ask.source]
        health.in_flight -= 1
        self._in_flight -= 1
        return health

    def _again(self, ask: Ask) -> None:
        self._failed_at.setdefault(ask.piece, set()).add(ask.source)
        insort(self._todo, ask.piece)
