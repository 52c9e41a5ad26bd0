"""When a source gives too little: to one request, beside what its line gives, and to one client, beside what it needs.

Owns: both rules. Time is handed in. Must not know where bytes come from. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

NEED_BPS: Final = 4000
"""Bytes per second below which clients ban a node, over any 20 s (``protocol`` of Delivery Optimization)."""
WINDOW_S: Final = 18.0
_UNFAIR: Final = 8


class Traffic:
    """What has come from one host lately, over all its bodies."""

    def __init__(self, *, keep_s: float) -> None:
        self.bodies = 0
        self._keep_s = keep_s
        self._total = 0
        self._marks: deque[tuple[float, int]] = deque()
        """Time → bytes until then, at most one a second."""

    def took(self, count_bytes: int, now_s: float) -> None:
        """Bytes have come."""
        if not self._marks or now_s - self._marks[-1][0] >= 1.0:
            self._marks.append((now_s, self._total))
            while now_s - self._marks[0][0] > self._keep_s:
                self._marks.popleft()
        self._total += count_bytes

    def since(self, then_s: float) -> int:
        """Bytes that have come since ``then_s``, to about a second."""
        return self._total - next((total for at_s, total in self._marks if at_s >= then_s - 1.0), self._total)


def is_stalled(own_bytes: int, traffic: Traffic, *, since_s: float, now_s: float, min_rate_bps: float) -> bool:
    """Whether a request that got ``own_bytes`` since ``since_s`` is at fault itself, or its whole line stands still.

    Where the line is thin each of its requests gets little: that is no fault of one of them. It is one where the others
    get what they need, and this one an eighth of it.
    """
    least = min_rate_bps * (now_s - since_s)
    if own_bytes >= max(least, 1):
        return False
    line = max(own_bytes, traffic.since(since_s))
    share = line / max(1, traffic.bodies)
    if traffic.bodies <= 1 or line < max(least, 1):
        return True
    return share >= least and own_bytes * _UNFAIR < share


class Feed:
    """How one client is fed. Only the time counts in which it waits for its source: it may be slow itself."""

    def __init__(self, offset: int) -> None:
        self._waited_s = 0.0
        self._marks = deque([(0.0, offset)])

    def waited(self, seconds: float, offset: int) -> None:
        """It has waited, and has got everything before ``offset``."""
        self._waited_s += seconds
        self._marks.append((self._waited_s, offset))
        while len(self._marks) > 1 and self._marks[0][1] <= offset - NEED_BPS * WINDOW_S:
            self._marks.popleft()

    @property
    def patience_s(self) -> float:
        """How long it can wait for its next byte before it would ban the node."""
        return max(0.0, self._marks[0][0] + WINDOW_S - self._waited_s)
