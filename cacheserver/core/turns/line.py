"""What the line to one origin host, or to all, gives, measured from the bytes that come; what follows for requests.

Owns: the rate, the number of requests that the line can feed, how many of them make it no faster, the size of a span.
Time is handed in. Must not know who asks. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FEED_BPS: Final = 8000
"""Bytes per second that each request of a client is to get: clients ban a node below 4,000, and shares differ."""
START: Final = 10
"""Requests that are sent before anything is known of a line."""
AHEAD_S: Final = 2.0
"""Seconds of a line's rate that are asked for in advance."""
_FIRST_S, _FIRST_BYTES = 0.02, 1 << 17
_SAMPLE_S: Final = 0.25
_SAMPLES: Final = 8
_RECENT: Final = 4


class Line:
    """The line to one host. Only the time in which a body is on its way counts."""

    def __init__(self, *, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self.bodies = 0
        """Bodies on their way now."""
        self.room = START
        """Requests that may wait for the line at once, so that each is fed."""
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._bytes = 0
        self._busy_s = 0.0
        self._since_s = 0.0

    @property
    def rate_bps(self) -> float | None:
        """Most bytes per second of the last seconds; None where nothing was measured."""
        return max(self._rates, default=None)

    def begin(self, now_s: float) -> None:
        """One more body is on its way."""
        self._pass(now_s)
        self.bodies += 1

    def end(self, now_s: float) -> None:
        """One body less."""
        self._pass(now_s)
        self.bodies -= 1

    def took(self, count_bytes: int, now_s: float) -> bool:
        """Bytes have come; True when something was learnt by it."""
        self._pass(now_s)
        self._bytes += count_bytes
        first = not self._rates and self._busy_s >= _FIRST_S and self._bytes >= _FIRST_BYTES
        if not first and self._busy_s < _SAMPLE_S:
            return False
        self._rates.append(self._bytes / self._busy_s)
        self._bytes, self._busy_s = 0, 0.0
        recent = list(self._rates)[-_RECENT:]
        fed = int(sum(recent) / _RECENT / FEED_BPS)  # the first samples count less: buffers fill at once
        self.room = max(START, fed) if fed < self.bodies else max(self.room, fed)
        return True

    def ended_soon(self, most: int) -> None:
        """A request was over before its line could be measured: one more may wait, up to ``most``."""
        if self.room < most:
            self.room += 1

    def span_pieces(self, most: int) -> int:
        """Pieces that one request is to ask for: what it gets in ``AHEAD_S``, ``most`` where that is not known."""
        rate = self.rate_bps
        if rate is None:
            return most
        return max(1, min(most, int(rate / max(1, self.bodies) * AHEAD_S / self._piece_bytes)))

    def full(self, most_pieces: int) -> int:
        """Requests that keep the line full: what nobody waits for yet is asked for with fewer under way."""
        asked_bytes = self.span_pieces(most_pieces) * self._piece_bytes
        return 1 + int((self.rate_bps or 0.0) * AHEAD_S / asked_bytes)

    def _pass(self, now_s: float) -> None:
        if self.bodies:
            self._busy_s += now_s - self._since_s
        self._since_s = now_s
