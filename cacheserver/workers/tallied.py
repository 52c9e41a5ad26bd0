"""Accounting in a worker: answers are counted as in the owner, and sent there.

Owns: the worker's tally. Must not write anywhere.
"""

from __future__ import annotations

from cacheserver.core.client import Client
from cacheserver.core.tally import Tally


class TallyMeter:
    """The part of ``ports.Meter`` that a warm hit needs."""

    def __init__(self) -> None:
        self.tally = Tally.of_answers()
        self.requests = 0
        """Answers since the start."""

    def request(
        self,
        service: str,
        outcome: str,
        status: int,
        body_bytes: int,
        duration_s: float,
        client: Client,
        first_byte_s: float | None = None,
    ) -> None:
        """Count one answer; see ``ports.Meter``."""
        self.requests += 1
        self.tally.add(service, outcome, status, max(0, body_bytes), duration_s, client, first_byte_s)
