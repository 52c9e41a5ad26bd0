"""A meter that remembers what it was told."""

from __future__ import annotations

from collections import Counter

from cacheserver.core.request.answer_record import AnswerRecord


class CountingMeter:
    """Counts every report by its words; bytes are summed apart."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.freed_bytes: Counter[str] = Counter()
        self.received_bytes = 0
        self.fills_running = 0

    def answered(self, answer: AnswerRecord) -> None:
        """See ``ports.Meter``."""
        self.counts["request", answer.request.service, answer.outcome, str(answer.status)] += 1

    def booked(self, answer: AnswerRecord) -> None:
        """See ``ports.Meter``."""
        self.counts["booked", answer.request.service] += answer.body_bytes - answer.booked_bytes

    def refused(self, reason: str) -> None:
        """See ``ports.Meter``."""
        self.counts["refused", reason] += 1

    def connection_refused(self, limit: str) -> None:
        """See ``ports.Meter``."""
        self.counts["connection_refused", limit] += 1

    def upstream_request(self, service: str, source_class: str, result: str) -> None:
        """See ``ports.Meter``."""
        self.counts["upstream", result] += 1

    def upstream_bytes(self, service: str, source_class: str, body_bytes: int) -> None:
        """See ``ports.Meter``."""
        self.received_bytes += body_bytes

    def fill_started(self) -> None:
        """See ``ports.Meter``."""
        self.fills_running += 1

    def fill_ended(self) -> None:
        """See ``ports.Meter``."""
        self.fills_running -= 1

    def collapsed(self) -> None:
        """See ``ports.Meter``."""
        self.counts[("collapsed",)] += 1

    def verified(self, level: str, result: str) -> None:
        """See ``ports.Meter``."""
        self.counts["verified", level, result] += 1

    def content_refused(self, reason: str) -> None:
        """See ``ports.Meter``."""
        self.counts["content_refused", reason] += 1

    def manifest(self, result: str) -> None:
        """See ``ports.Meter``."""
        self.counts["manifest", result] += 1

    def struck(self, *, banned: bool) -> None:
        """See ``ports.Meter``."""
        self.counts["struck", str(banned)] += 1

    def evicted(self, volume: str, reason: str, freed_bytes: int) -> None:
        """See ``ports.Meter``."""
        self.counts["evicted", reason] += 1
        self.freed_bytes[reason] += freed_bytes
