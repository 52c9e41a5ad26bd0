"""Memories of what was asked and is no object: which requests pass at once, and which other answers still stand.

Owns: these memories. They are by the exact URL and the fields that go upstream, so that one client's spelling, token or
cookie says nothing of another's request; an answer that the origin gives a lifetime, by the URL and what Vary names. A
purge of the object ends what was remembered before it. Must not ask.
"""

from __future__ import annotations

from typing import Final

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.cache.kept_answer import Answered, KeptAnswer, kept_answer
from cacheserver.core.cache.origin_status import StatusMeaning
from cacheserver.core.cache.question import question
from cacheserver.core.http.fields import Fields
from cacheserver.fill.asking import Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.outcome import Opening, Relayed, Stored
from cacheserver.ports import Clock

_ENTRIES: Final = 4096
_REFUSALS_BYTES: Final = 16 << 20
_FLAPPING_S: Final = 3600.0
"""Seconds for which content is passed whose origin gave an entity tag that it does not give again."""


class Remembered:
    """What need not be asked, or not be opened, again for seconds."""

    def __init__(self, context: FillContext, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self._flapping = BoundedMemory[str, bool](_ENTRIES)
        self._passes = BoundedMemory[bytes, int](_ENTRIES)
        self._refusals = BoundedMemory[bytes, tuple[int, Answered]](
            _ENTRIES, weigh=lambda kept: kept[1].kept_bytes, weight_limit=_REFUSALS_BYTES
        )
        self._answers = BoundedMemory[bytes, tuple[int, KeptAnswer]](
            _ENTRIES, weigh=lambda kept: kept[1].answered.kept_bytes, weight_limit=_REFUSALS_BYTES
        )
        context.store.notifications.purged.append(self._flapping.forget)

    @property
    def refusals_bytes(self) -> int:
        """Memory of the refusals and other answers that are kept."""
        return self._refusals.weight + self._answers.weight

    def question(self, want: Want) -> bytes:
        """What stands for the request upstream that a want leads to."""
        return question(want.target, self._context.asker.upstream_fields(want))

    def passes(self, want: Want) -> bool:
        """Whether this request's answer could not be stored a moment ago, or the object's edges disagree."""
        now_s = self._clock.monotonic_s()
        if self._flapping.get(want.target.object_id, now_s):
            return True
        since = self._passes.get(self.question(want), now_s) if len(self._passes) else None
        return since is not None and not self._outdated(since, want)

    def refusal(self, want: Want) -> Answered | None:
        """The origin's refusal of this very request, if it was given a moment ago."""
        kept = self._refusals.get(self.question(want), self._clock.monotonic_s()) if len(self._refusals) else None
        return None if kept is None or self._outdated(kept[0], want) else kept[1]

    def answer(self, want: Want) -> KeptAnswer | None:
        """What the origin answered to this URL in place of a representation, fresh or not."""
        kept = self._answers.get(_url(want)) if len(self._answers) else None
        if kept is None or self._outdated(kept[0], want):
            return None
        return kept[1] if kept[1].selected_by(self._context.asker.upstream_fields(want)) else None

    def note(self, want: Want, outcome: Opening, since: int) -> None:
        """Remember what became of a want that was sent when there were ``since`` purges, where it may be remembered."""
        now_s, options = self._clock.monotonic_s(), self._context.options
        if isinstance(outcome, Relayed) and outcome.remember:
            self._passes.keep(self.question(want), since, now_s + options.pass_memory_s)
        self._keep(want, outcome, since)
        shipped = not want.target.service.own
        if isinstance(outcome, Answered) and shipped and outcome.meaning is StatusMeaning.GONE:
            self._refusals.keep(self.question(want), (since, outcome), now_s + options.negative_s)

    def _keep(self, want: Want, outcome: Opening, since: int) -> None:
        """The latest answer to a URL counts, whatever it is."""
        fields, kept = self._context.asker.upstream_fields(want), None
        if isinstance(outcome, Answered):
            kept = kept_answer(outcome, want.target, fields)
        if kept is not None:
            self._answers.keep(_url(want), (since, kept))
        elif isinstance(outcome, Stored):
            self._answers.forget(_url(want))

    def note_flapping(self, object_id: str) -> None:
        """Edges of the origin disagree: each client gets one answer, undivided."""
        self._flapping.keep(object_id, True, self._clock.monotonic_s() + _FLAPPING_S)

    def _outdated(self, since: int, want: Want) -> bool:
        return self._context.store.purged_after(since, want.target.object_id)


def _url(want: Want) -> bytes:
    return question(want.target, Fields(()))
