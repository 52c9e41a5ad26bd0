"""Which sources may be asked, and in which order: strikes for bad bytes, bans, a short demotion after a failure.

Owns: the state per source (``scheme://host:port``). Time is handed in. A source is never trusted more for being ours:
a parent or sibling node earns strikes like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cacheserver.core.bounded_memory import BoundedMemory

MAX_SOURCES = 1024
STRIKES_TO_BAN = 3
"""Bad pieces after which a source is not asked any more."""


@dataclass(slots=True)
class _State:
    strikes: int = 0
    struck_s: float = 0.0
    banned_until_s: float = 0.0
    failed_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ban:
    """One source that is not asked."""

    source: str
    seconds_left: float


class SourceHealth:
    """Strikes and bans of all sources; ``strikes`` bad pieces within ``ban_s`` seconds ban a source for ``ban_s``."""

    def __init__(self, *, strikes: int = STRIKES_TO_BAN, ban_s: float = 900.0, demotion_s: float = 30.0) -> None:
        self._strikes = strikes
        self._ban_s = ban_s
        self._demotion_s = demotion_s
        self._states: BoundedMemory[str, _State] = BoundedMemory(MAX_SOURCES)

    def strike(self, source: str, now_s: float) -> bool:
        """Note a bad piece; True when the source is banned by it."""
        state = self._state(source)
        if now_s - state.struck_s > self._ban_s:
            state.strikes = 0
        state.strikes += 1
        state.struck_s = now_s
        if state.strikes < self._strikes:
            return False
        state.strikes = 0
        state.banned_until_s = now_s + self._ban_s
        return True

    def failed(self, source: str, now_s: float) -> None:
        """Note that the source did not answer as asked: others come first for a while."""
        self._state(source).failed_until_s = now_s + self._demotion_s

    def succeeded(self, source: str) -> None:
        """Note a good answer."""
        state = self._states.get(source)
        if state is not None:
            state.failed_until_s = 0.0

    def order(self, sources: Sequence[str], now_s: float, *, avoid: frozenset[str] = frozenset()) -> list[str]:
        """The sources that may be asked, best first: banned ones are left out, failed and avoided ones come last."""
        states = {source: self._states.get(source) or _State() for source in sources}
        allowed = [source for source in sources if states[source].banned_until_s <= now_s]
        return sorted(allowed, key=lambda source: (source in avoid, states[source].failed_until_s > now_s))

    def bans(self, now_s: float) -> list[Ban]:
        """Sources banned now."""
        return [
            Ban(source, state.banned_until_s - now_s)
            for source, state in self._states.items()  # a copy: the thread that renders metrics asks too
            if state.banned_until_s > now_s
        ]

    def lift(self, source: str) -> bool:
        """End a ban at once and forget its strikes; False when there was none."""
        state = self._states.get(source)
        self._states.forget(source)
        return state is not None and state.banned_until_s > 0

    def _state(self, source: str) -> _State:
        state = self._states.get(source)
        if state is None:
            state = _State()
            self._states.keep(source, state)
        return state
