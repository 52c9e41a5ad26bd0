"""What the fast lanes of all connections share: the table of hot objects, the turns, the buffer, the counters."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from cacheserver.core.request.answer_record import AnswerRecord
from cacheserver.logs.access_json import LineTemplate
from cacheserver.ports import Clock
from cacheserver.web.lane.hot_table import HotTable
from cacheserver.web.sending import tcp
from cacheserver.web.sending.turns import Turns
from cacheserver.web.under_way import UnderWay

SMALL_BYTES = (1 << 14) + 4096
"""Answers up to this size, head included, go out by one read and one send."""


@dataclass(slots=True, kw_only=True, eq=False)
class LaneShared:
    """The shared parts, and whether lanes answer at all."""

    table: HotTable
    clock: Clock
    account: Callable[[AnswerRecord, dict[str, LineTemplate]], None]
    """Count and log one answer, with the encoded log lines of its entry."""
    under_way: UnderWay
    touch: Callable[[Any, int, int], None]
    """Note a use of pieces ``[first, stop)``."""
    turn_bytes: int
    executor: Executor
    enabled: bool = True
    read_flags: int = os.RWF_NOWAIT
    """A read that would wait for the disk gives up, and the general way reads ahead in a thread."""
    corks: bool = field(default_factory=lambda: not tcp.paces())
    """Whether large answers go out in whole segments: up to a quarter faster, but half as fast where TCP paces."""
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(SMALL_BYTES)))
    """For one small answer at a time: it is filled and sent without giving up the loop."""
    answers: int = 0
    """Answers that the lane has begun since the start."""
    passed: int = 0
    """Plain hits of known or unseen heads that the full path has answered while the lane was enabled."""
    monotonic_s: Callable[[], float] = field(init=False)
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.monotonic_s, self.turns = self.clock.monotonic_s, Turns(self.clock)

    def reconfigure(self, *, enabled: bool) -> None:
        """Answer or do not, and forget every object: changed settings may not admit it."""
        self.enabled = enabled
        self.table.clear()

    def note_failed_read(self, exc: OSError) -> None:
        """Read small answers without flags from now on where the file system knows none."""
        if exc.errno == errno.EOPNOTSUPP:
            self.read_flags = 0
