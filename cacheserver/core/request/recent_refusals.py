"""What the node has refused of late.

Owns: a bounded memory of reasons and hosts. Must not hold anything else that a client sent: no path, no query, no
address. Time is handed in. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.bounded_memory import BoundedMemory

LIMIT: Final = 50
_HOST_LIMIT: Final = 262
"""The longest host name with a port."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One reason (an error code) and host (canonical, empty where none was understood), ``last_s`` in Unix time."""

    reason: str
    host: str
    count: int
    last_s: float


class RecentRefusals:
    """The last distinct refusals, at most ``limit``: whatever was not seen for longest makes room."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._seen = BoundedMemory[tuple[str, str], tuple[int, float]](limit)

    def note(self, reason: str, host: str, now_s: float) -> None:
        """Remember one refusal."""
        key = (reason, host[:_HOST_LIMIT])
        count, _last_s = self._seen.get(key) or (0, 0.0)
        self._seen.keep(key, (count + 1, now_s))

    def recent(self) -> list[Refused]:
        """Newest first."""
        return [Refused(*key, *seen) for key, seen in reversed(list(self._seen.items()))]
