"""What the line to one origin host, or to all, gives, measured from the bytes that come; what follows for requests.

Owns: the rate, the number of requests that the line can feed, how many of them make it no faster, the size of a span.
Time is handed in. Must not know who asks. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FEED_BPS: Final = 8000
"""Bytes per second that each request of a client is to get: clients ban a node below 4,000, and shares differ."""
SURE_BPS: Final = 4 * FEED_BPS
"""What so many get on average feeds each of them, however unequal their shares are."""
START: Final = 6
"""Requests that are sent before anything is known of a line."""
AHEAD_S: Final = 2.0
"""Seconds of a line's rate that are asked for in advance."""
STEP_S: Final = 1.0
"""Between two looks at what each request gets."""
_FIRST_S, _FIRST_BYTES = 0.02, 1 << 17
_SAMPLE_S: Final = 0.25
_SAMPLES: Final = 8
_RECENT: Final = 4
_WEIGHT: Final = 0.3
"""Of the last step in what a request gets."""
_UNFAIR: Final = 8
"""Who gets less than this part of the mean share is slow by itself, and says nothing of the line."""
_STEPS: Final = 6
"""The number of requests grows by this part of it."""
_OVERLOOKED: Final = 16
"""Of so many requests, one may get too little."""


class _Body:
    """One body on its way: what it got since the last look, and what it gets per second; None where that is unknown."""

    __slots__ = ("got_bytes", "rate_bps", "since_s")

    def __init__(self, now_s: float) -> None:
        self.since_s = now_s
        self.got_bytes = 0
        self.rate_bps: float | None = None

    def look(self, now_s: float) -> None:
        """Learn what it gets, where it has been on its way for a whole step."""
        if now_s - self.since_s < STEP_S:
            return
        rate = self.got_bytes / (now_s - self.since_s)
        self.rate_bps = rate if self.rate_bps is None else self.rate_bps + _WEIGHT * (rate - self.rate_bps)
        self.got_bytes, self.since_s = 0, now_s


class Line:
    """The line to one host. Only the time in which a body is on its way counts."""

    def __init__(self, *, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._moving: dict[object, _Body] = {}
        self.room = START
        """Requests that may wait for the line at once, so that each is fed."""
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._bytes = 0
        self._busy_s = 0.0
        self._since_s = 0.0
        self._looked_s = 0.0

    @property
    def bodies(self) -> int:
        """Bodies on their way now."""
        return len(self._moving)

    @property
    def rate_bps(self) -> float | None:
        """Most bytes per second of the last seconds; None where nothing was measured."""
        return max(self._rates, default=None)

    @property
    def is_thin(self) -> bool:
        """Whether it is known that not all that are under way are fed for sure."""
        return self.rate_bps is not None and self.rate_bps < SURE_BPS * self.bodies

    def begin(self, body: object, now_s: float) -> None:
        """One more body is on its way."""
        self._pass(now_s)
        self._moving[body] = _Body(now_s)

    def end(self, body: object, now_s: float) -> None:
        """One body less."""
        self._pass(now_s)
        del self._moving[body]

    def took(self, body: object, count_bytes: int, now_s: float) -> bool:
        """Bytes of a body have come; True when something was learnt by it."""
        self._pass(now_s)
        self._bytes += count_bytes
        if body in self._moving:
            self._moving[body].got_bytes += count_bytes
        first = not self._rates and self._busy_s >= _FIRST_S and self._bytes >= _FIRST_BYTES
        if not first and self._busy_s < _SAMPLE_S:
            return False
        self._rates.append(self._bytes / self._busy_s)
        self._bytes, self._busy_s = 0, 0.0
        recent = sum(list(self._rates)[-_RECENT:]) / _RECENT  # first samples count less: buffers fill at once
        self.room = max(self.room, int(recent / SURE_BPS))
        if now_s - self._looked_s >= STEP_S:
            self._looked_s = now_s
            self._step(recent, now_s)
        return True

    def _step(self, recent_bps: float, now_s: float) -> None:
        """More requests where all that are sent are fed, fewer where some are not."""
        for body in self._moving.values():
            body.look(now_s)
        least, fed = self._least_bps(), int(recent_bps / FEED_BPS)
        starved = fed < self.bodies or (least is not None and least < FEED_BPS)
        if starved and self.bodies > START:
            self.room = max(START, int(recent_bps / SURE_BPS), min(self.room, fed, self.bodies - 1))
        elif least is not None and not starved and self.bodies >= self.room:
            self.room = max(self.room, min(fed, self.room + max(1, self.room // _STEPS)))

    def _least_bps(self) -> float | None:
        """What the slowest request gets, but for those that are slow by themselves; None where that is unknown."""
        rates = sorted(body.rate_bps for body in self._moving.values() if body.rate_bps is not None)
        fair = [rate for rate in rates if rate * _UNFAIR * len(rates) >= sum(rates)]
        return fair[len(fair) // _OVERLOOKED] if fair else None

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
        if self._moving:
            self._busy_s += now_s - self._since_s
        self._since_s = now_s
