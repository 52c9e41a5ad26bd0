"""The decisions of a fetch without metadata: HTTP only, each generation of the file from one source.

Owns: what is asked next and what an answer means for the bytes at hand. Pure. A broken answer is gone on with only at
the same source, by If-Range with a strong validator; without one, or at another source, the file begins anew, since
nothing could tell a mixture of two generations from a whole file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cacheserver.core.cache.answer import AcceptedAnswer
from cacheserver.core.cache.generation import ExpectedGeneration
from cacheserver.core.cache.sources import Source
from cacheserver.core.http.validators import Validators
from cacheserver.fetch.standing import Hopeless, Standing, hopeless, usable

_PROGRESS_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation that the bytes at hand belong to. ``condition`` is its strong validator for If-Range."""

    source: str
    length_bytes: int | None
    condition: str | None
    validators: Validators


@dataclass(frozen=True, slots=True)
class AskRest:
    """Ask ``source`` for everything from ``start`` on, under ``generation``'s condition where ``start`` is not 0."""

    source: Source
    start: int
    generation: Generation | None
    rest_s: float

    @property
    def expected(self) -> ExpectedGeneration | None:
        """What an answer must agree with."""
        if self.generation is None or self.generation.length_bytes is None:
            return None
        return ExpectedGeneration(self.generation.length_bytes, self.generation.validators)


@dataclass(slots=True)
class SimpleWorkflow:
    """The state of one fetch without metadata; ``have_bytes`` are those of ``generation``."""

    sources: Sequence[Source]
    have_bytes: int = 0
    generation: Generation | None = None
    health: dict[Source, Standing] = field(init=False)
    _furthest_bytes: int = field(init=False, default=0)
    """Up to where faults were forgiven."""

    def __post_init__(self) -> None:
        self.health = {source: Standing(source) for source in self.sources}

    def next(self, now_s: float) -> AskRest | Hopeless:
        """What to ask next."""
        askable = usable(self.health)
        if not askable:
            return hopeless(self.health)
        held = self.generation
        known = [health for health in askable if held is not None and health.source.origin == held.source]
        chosen = known[0] if known else askable[0]
        if not known or held is None or held.condition is None or held.length_bytes is None:
            self.restart()
        return AskRest(chosen.source, self.have_bytes, self.generation, max(0.0, chosen.rest_until_s - now_s))

    def restart(self) -> None:
        """Drop the bytes at hand, as when the source holds another generation now."""
        self.have_bytes, self.generation = 0, None

    def answered(self, ask: AskRest, accepted: AcceptedAnswer, condition: str | None) -> None:
        """An answer was accepted whose body begins at ``accepted.start``: 0 means that the file begins anew."""
        if accepted.start == 0:
            self.have_bytes = 0
            self.generation = Generation(ask.source.origin, accepted.total, condition, accepted.validators)

    def received(self, ask: AskRest, size_bytes: int) -> None:
        """Body bytes were written. Only bytes that nobody has sent before forgive faults, or a fetch may never end."""
        self.have_bytes += size_bytes
        health = self.health[ask.source]
        health.body_bytes += size_bytes
        if self.have_bytes >= self._furthest_bytes + _PROGRESS_BYTES:
            self._furthest_bytes = self.have_bytes
            health.faults = 0

    def faulty(self, ask: AskRest, reason: str, *, slow: bool, started_s: float, now_s: float) -> str:
        """The request failed in a way that may pass; a ``slow`` one has cost more time than others."""
        health = self.health[ask.source]
        health.fault(reason, started_s=started_s, now_s=now_s, weight=2 if slow else 1)
        return f"{ask.source.origin}: {reason}" + (": not asked again" if health.banned else "")

    def refused(self, ask: AskRest, reason: str) -> str:
        """The source does not serve this content."""
        return self.health[ask.source].refuse(reason)
