"""The answers that are under way: their bytes are counted when somebody reads the counters, not only at their end.

Owns: which answers these are. A large body is sent for minutes; counted at its end, it would be a gap and then a peak
in every rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cacheserver.core.request.answer_record import AnswerRecord


class Answer(Protocol):
    """One that sends its body."""

    booked_bytes: int
    """Body bytes that were counted so far."""

    def record(self, ended_s: float) -> AnswerRecord:
        """The answer as it would be if it ended now; ``ended_s`` is in monotonic time."""
        ...


class UnderWay:
    """Answers of the full path, and those of the fast lane that take several turns."""

    def __init__(self, book: Callable[[AnswerRecord], None]) -> None:
        self._book = book
        self._answers: set[Answer] = set()
        self.began, self.ended = self._answers.add, self._answers.discard

    def book(self, now_s: float) -> None:
        """Count what was sent since the last time."""
        for answer in self._answers:
            so_far = answer.record(now_s)
            if so_far.body_bytes > answer.booked_bytes:
                self._book(so_far)
                answer.booked_bytes = so_far.body_bytes
