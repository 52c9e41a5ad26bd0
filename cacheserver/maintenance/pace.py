"""How fast the scrubber may read: the arithmetic between bytes, a deadline and a clock.

Owns: the debt of bytes that were read and not yet waited for. Pure but for the clock that it is given; must not wait.
"""

from __future__ import annotations

from typing import Final

from cacheserver.ports import Clock

_LEAST_REST_S: Final = 0.02
"""Shorter rests than this are saved up: they would cost more than they give."""
_SHORTEST_DEADLINE_S: Final = 1.0


def paced_rate_bps(*, stored_bytes: int, done_bytes: int, period_s: float, elapsed_s: float, most_bps: float) -> float:
    """Bytes per second with which ``stored_bytes`` are read within ``period_s``, of which ``elapsed_s`` are over.

    Never slower than an even pass over all that is stored now, faster to catch up, never faster than ``most_bps``.
    """
    left_s = max(_SHORTEST_DEADLINE_S, period_s - max(0.0, elapsed_s))
    even_bps = stored_bytes / period_s
    return min(most_bps, max(even_bps, (stored_bytes - done_bytes) / left_s, 1.0))


class Debt:
    """Bytes read, less what the time since allows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bytes = 0.0
        self._since_s = clock.monotonic_s()

    def add(self, size_bytes: int) -> None:
        """So much was read."""
        self._bytes += size_bytes

    def forgive(self) -> None:
        """Time that was spent waiting for others earns nothing, and what was owed before it is paid."""
        self._bytes = 0.0
        self._since_s = self._clock.monotonic_s()

    def rest_s(self, rate_bps: float) -> float:
        """Seconds to wait now at this rate; 0 where it is not worth a rest."""
        now_s = self._clock.monotonic_s()
        self._bytes = max(0.0, self._bytes - (now_s - self._since_s) * rate_bps)
        self._since_s = now_s
        rest_s = self._bytes / rate_bps
        return rest_s if rest_s >= _LEAST_REST_S else 0.0
