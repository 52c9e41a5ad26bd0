"""Whether clients need the drives more than the scrubber does.

Owns: the rate at which clients take bytes, from a total that only grows. Must not wait; whoever asks decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from cacheserver.ports import Clock

_WINDOW_S: Final = 10.0
_SAMPLE_S: Final = 1.0


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
