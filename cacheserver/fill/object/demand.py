"""What the clients of one object want of it: its readers, those expected back, how far they read in sequence.

Owns: the windows of readers, how long one that was served is expected back, how much is read ahead for it. Must not
start requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cacheserver.core.fetch_plan import Window
from cacheserver.core.piece_map import PieceMap
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.options import FillOptions

_RUNS_LIMIT = 1024


class Demand:
    """Readers of one object; ``on_gone`` is called when one that was expected back has not come."""

    def __init__(self, pieces: PieceMap, options: FillOptions, *, on_gone: Callable[[], None]) -> None:
        self.readers: set[Reader] = set()
        self._pieces = pieces
        self._options = options
        self._on_gone = on_gone
        self._expected: list[Window] = []
        self._runs: dict[int, int] = {}
        """Piece at which a reader ended → how many readers in a row ended where the next began."""

    def __bool__(self) -> bool:
        """Whether any client reads or is expected back."""
        return bool(self.readers or self._expected)

    def until_piece(self, start: int, stop: int, *, whole: bool) -> int:
        """Piece up to which is fetched for a new reader of bytes ``[start, stop)``; further for one that reads on."""
        first, end = self._pieces.covering(start, stop)
        run = self._runs.get(first, 0)
        ahead = 0 if whole or not run else min(self._options.read_ahead_pieces, 1 << min(run, 12))
        if len(self._runs) >= _RUNS_LIMIT:
            self._runs.clear()
        self._runs[end] = max(run + 1, self._runs.get(end, 0))
        return min(end + ahead, len(self._pieces))

    def leave(self, reader: Reader, *, expected: bool) -> None:
        """A reader is done; ``expected``: its client may come back for what follows."""
        self.readers.discard(reader)
        if expected and self._options.linger_s:
            # An empty window fetches nothing, but keeps in mind where this client stopped.
            window = reader.window()
            self._expected.append(window)
            asyncio.get_running_loop().call_later(self._options.linger_s, self._give_up_on, window)

    def _give_up_on(self, window: Window) -> None:
        self._expected.remove(window)
        self._on_gone()

    def windows(self) -> list[Window]:
        """What the readers want now."""
        return [reader.window() for reader in self.readers]

    def covers(self, first: int, stop: int) -> bool:
        """Whether a client waits for, or is expected to ask for, pieces in ``[first, stop)``."""
        return any(window.first < stop and first < window.stop for window in (*self.windows(), *self._expected))
