"""An access log on a writer of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from cacheserver.logs.access_combined import CombinedLines
from cacheserver.logs.access_json import AccessLogLines
from cacheserver.logs.writer import LineWriter


class WrittenLog(AccessLogLines):
    """Lines that a file gets."""

    def __init__(self, path: str, *, wall_s: Callable[[], float] = time.time) -> None:
        self.writer = LineWriter(path)
        super().__init__(self.writer.put, wall_s=wall_s)

    def reopen(self) -> None:
        """Go on in the file that has the name now."""
        self.flush()
        self.writer.reopen()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left."""
        self.flush()
        self.writer.close(timeout_s)


class WrittenCombinedLog(CombinedLines, WrittenLog):
    """The same in nginx's combined form."""
