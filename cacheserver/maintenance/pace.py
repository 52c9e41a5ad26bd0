"""How fast the scrubber may read, and whether clients need the drives more than it does.

Owns: the arithmetic between bytes, a deadline and a clock; the rate at which clients take bytes. Must not wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from cacheserver.ports import Clock

_LEAST_REST_S: Final = 0.02
"""Shorter rests than this are saved up: they would cost more than they give."""
_SHORTEST_DEADLINE_S: Final = 1.0
_WINDOW_S: Final = 10.0
_SAMPLE_S: Final = 1.0


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
        """Start anew after a pause: it earns nothing, and the debt from before it is paid."""
        self._bytes = 0.0
        self._since_s = self._clock.monotonic_s()

    def rest_s(self, rate_bps: float) -> float:
        """Seconds to wait now at this rate; 0 where it is not worth a rest."""
        now_s = self._clock.monotonic_s()
        self._bytes = max(0.0, self._bytes - (now_s - self._since_s) * rate_bps)
        self._since_s = now_s
        rest_s = self._bytes / rate_bps
        return rest_s if rest_s >= _LEAST_REST_S else 0.0


class Load:
    """``fills`` gives the upstream requests of fills under way, ``sent_bytes`` the bytes sent to clients so far."""

    def __init__(self, *, fills: Callable[[], int], sent_bytes: Callable[[], int], clock: Clock) -> None:
        self._fills = fills
        self._sent_bytes = sent_bytes
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock.monotonic_s(), sent_bytes())])

    def is_heavy(self, *, most_fills: int, most_bps: int) -> bool:
        """Whether more fills than ``most_fills`` run, or clients take more bytes per second than ``most_bps``."""
        return self._fills() > most_fills or self._rate_bps() > most_bps

    def _rate_bps(self) -> float:
        """Bytes per second since about 10 s, or since the last question where that is longer ago."""
        now_s, sent = self._clock.monotonic_s(), self._sent_bytes()
        if now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, sent))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()
        since_s, before = self._samples[0]
        return (sent - before) / max(now_s - since_s, _SAMPLE_S)
