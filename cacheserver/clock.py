"""The machine's clocks, behind ``ports.Clock``."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clocks."""

    def wall_s(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
