"""Which sources may be asked, and in which order: strikes for bad bytes, bans, demotions.

Owns: the state per source (``scheme://host:port``). Time is handed in. What earns a strike or a demotion is
``core.integrity.blame``'s. A source is never trusted more for being ours:
a parent or sibling node earns strikes like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cacheserver.core.bounded_memory import BoundedMemory

MAX_SOURCES = 1024
MAX_OBJECTS = 4096
STRIKES_TO_BAN = 3
"""Distinct objects with bad bytes after which a source is not asked any more."""


@dataclass(frozen=True, slots=True)
class Ban:
    """One source that is not asked."""

    source: str
    seconds_left: float


class SourceHealth:
    """Strikes and bans of all sources; ``strikes`` distinct objects within ``ban_s`` ban a source for ``ban_s``.

    Bans and strikes have memories of their own: only bad bytes get a source in, so failures elsewhere push none out.
    """

    def __init__(self, *, strikes: int = STRIKES_TO_BAN, ban_s: float = 900.0, demotion_s: float = 30.0) -> None:
        self._strikes_to_ban = strikes
        self._ban_s = ban_s
        self._demotion_s = demotion_s
        self._strikes: BoundedMemory[str, frozenset[str]] = BoundedMemory(MAX_SOURCES)
        self._bans: BoundedMemory[str, float] = BoundedMemory(MAX_SOURCES)
        """Monotonic time at which each ban ends."""
        self._failed: BoundedMemory[str, bool] = BoundedMemory(MAX_SOURCES)
        self._demoted: BoundedMemory[str, bool] = BoundedMemory(MAX_SOURCES)
        self._wrong: BoundedMemory[str, tuple[str, ...]] = BoundedMemory(MAX_OBJECTS)
        """Sources of wrong bytes by object, the latest last."""

    def strike(self, source: str, object_id: str, now_s: float) -> bool:
        """Note bad bytes of an object; True when the source is banned by it."""
        strikes = (self._strikes.get(source, now_s) or frozenset()) | {object_id}
        until_s = now_s + self._ban_s
        if len(strikes) < self._strikes_to_ban:
            self._strikes.keep(source, strikes, until_s)
            return False
        self._strikes.forget(source)
        self._bans.keep(source, until_s, until_s)
        return True

    def demote(self, source: str, now_s: float) -> None:
        """Note bytes that contradict what nothing confirms: others come first for as long as a ban lasts."""
        self._demoted.keep(source, True, now_s + self._ban_s)

    def contradicted(self, source: str, object_id: str, now_s: float) -> None:
        """Note wrong bytes of one object: for this object others come first for as long as a ban lasts."""
        known = self._wrong.get(object_id, now_s) or ()
        self._wrong.keep(object_id, (*(name for name in known if name != source), source), now_s + self._ban_s)

    def failed(self, source: str, now_s: float) -> None:
        """Note that the source did not answer as asked: others come first for a while."""
        self._failed.keep(source, True, now_s + self._demotion_s)

    def succeeded(self, source: str) -> None:
        """Note a good answer."""
        self._failed.forget(source)

    def order(
        self,
        sources: Sequence[str],
        now_s: float,
        *,
        object_id: str = "",
        avoid: frozenset[str] = frozenset(),
        named: str | None = None,
        verified: bool = False,
    ) -> list[str]:
        """The sources that may be asked for an object, best first.

        Banned ones are left out; those that failed, gave wrong bytes of this object or are in ``avoid`` come last, of
        several that gave wrong bytes the latest: what is wrong can change with what is said.

        The source that the client ``named`` is never demoted for bytes, and is left out only for content that is
        ``verified``; otherwise a ban has it come after those that are not banned.
        """
        banned = {source for source in sources if self.is_banned(source, now_s)}
        wrong = self._wrong.get(object_id, now_s) or ()

        def rank(source: str) -> tuple[bool, int, bool, bool]:
            demoted = source != named and self._demoted.get(source, now_s)
            failed = bool(demoted or self._failed.get(source, now_s))
            return source in avoid, wrong.index(source) + 1 if source in wrong else 0, source in banned, failed

        spared = named if not verified else None
        return sorted((source for source in sources if source not in banned or source == spared), key=rank)

    def is_set_back(self, source: str, object_id: str, now_s: float) -> bool:
        """Whether others come first for an object because of bytes that this source gave."""
        return self.is_banned(source, now_s) or source in (self._wrong.get(object_id, now_s) or ())

    def is_banned(self, source: str, now_s: float) -> bool:
        """Whether a source is banned now."""
        return self._bans.get(source, now_s) is not None

    def bans(self, now_s: float) -> list[Ban]:
        """Sources banned now; another thread may ask."""
        return [Ban(source, until_s - now_s) for source, until_s in self._bans.items() if until_s > now_s]

    def lift(self, source: str) -> None:
        """End a ban at once, and forget strikes and failures."""
        self._bans.forget(source)
        self._strikes.forget(source)
        self._failed.forget(source)
        self._demoted.forget(source)
        for object_id, sources in self._wrong.items():
            if source in sources:
                self._wrong.forget(object_id)
