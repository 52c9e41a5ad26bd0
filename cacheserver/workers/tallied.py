"""Accounting in a worker: answers are counted and logged as in the owner, and both are sent there.

Owns: the worker's tally and its unsent lines. Must not write anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from cacheserver.access_lines import AccessLogLines
from cacheserver.combined_lines import CombinedLines
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


class ForwardedLog(AccessLogLines):
    """Access log lines on their way to the owner: ``forward`` gets whole lines and their number."""

    def __init__(self, forward: Callable[[bytes, int], None]) -> None:
        super().__init__()
        self._forward = forward

    def _hand_over(self, batch: bytes, lines: int) -> None:
        self._forward(batch, lines)


class ForwardedCombinedLog(CombinedLines, ForwardedLog):
    """The same in nginx's combined form."""
