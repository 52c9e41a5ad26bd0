"""How the sources of one fetch stand: which may be asked, from when on, and what is reported of each.

Owns: counters, rests after faults, and bans, which last for the whole fetch and keep their reason. Pure: the caller
passes the time. Rules: as many bad pieces as ban a source of the node ban one here; a client error bans it at once;
other faults let it rest, longer each time, and ban it when they do not end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cacheserver.core.cache.source_health import STRIKES_TO_BAN
from cacheserver.core.cache.sources import Source

FAULTS_TO_BAN: Final = 5
FIRST_REST_S: Final = 0.2


@dataclass(slots=True)
class Standing:
    """One source. ``banned`` is the reason, None while it may be asked."""

    source: Source
    pieces: int = 0
    body_bytes: int = 0
    strikes: int = 0
    faults: int = 0
    """Faults in a row."""
    banned: str | None = None
    in_flight: int = 0
    rest_until_s: float = 0.0
    last_fault_s: float = float("-inf")

    def good(self, size_bytes: int) -> None:
        """Count body bytes that were kept; the faults in a row end."""
        self.body_bytes += size_bytes
        self.faults = 0

    def strike(self) -> None:
        """Count a bad piece."""
        self.strikes += 1
        if self.strikes >= STRIKES_TO_BAN and self.banned is None:
            self.banned = f"{self.strikes} bad pieces"

    def fault(self, reason: str, *, started_s: float, now_s: float, weight: int = 1) -> None:
        """Count a fault of a request begun at ``started_s``; requests that failed together count as one."""
        if started_s <= self.last_fault_s or self.banned is not None:
            return
        self.faults += weight
        self.last_fault_s = now_s
        self.rest_until_s = now_s + FIRST_REST_S * 2 ** (self.faults - 1)
        if self.faults >= FAULTS_TO_BAN:
            self.banned = reason

    def refuse(self, reason: str) -> str:
        """The source does not serve this content: a line that says that it is banned."""
        self.banned = reason
        return f"{self.source.origin}: {reason}: not asked again"


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Bytes are missing and every source is banned."""

    reason: str


def usable(health: Mapping[Source, Standing]) -> list[Standing]:
    """The sources that may be asked, now or after a rest, in their order."""
    return [standing for standing in health.values() if standing.banned is None]


def hopeless(health: Mapping[Source, Standing]) -> Hopeless:
    """The end of a fetch, with the reason for each source."""
    return Hopeless("; ".join(f"{each.source.origin}: {each.banned}" for each in health.values()))
