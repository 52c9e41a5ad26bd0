"""The machine's clocks, behind ``ports.Clock``."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clocks."""

    def wall_s(self) -> float:
        """Unix time."""
        return time.time()

    monotonic_s = staticmethod(time.monotonic)
    """Seconds that never go back; asked for twice per warm hit, so that a call less counts."""
