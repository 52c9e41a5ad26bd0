"""One origin host as the queue sees it: its line, who uses it, who waits for it, and how many requests it admits.

Owns: the limits of one origin and of one client there. Must not grant anything. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.turns.line import Line
from cacheserver.core.turns.shares import Flow, Priority


def most_of(slots: int) -> int:
    """Three quarters: what one client, or all origins that have not answered, may have."""
    return slots - slots // 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests under way: to one origin, and in all; pieces of a request, and their size."""

    per_origin: int
    total: int
    piece_bytes: int = 1 << 20
    span_pieces: int = 4


class Origin:
    """One origin host: its line, who uses it and who waits for it."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.line = Line(piece_bytes=limits.piece_bytes)
        self.limits = limits
        self.used = self.quiet = 0
        self.proven = False
        """Whether it has answered, and nothing was silent for long since."""
        self.now = 0.0
        """Its virtual time: when the client that was served last was due."""
        self.flows: dict[str, Flow] = {}
        self.busy = 0
        """Flows that hold or wait."""
        self.waiting = [0, 0, 0]
        self.heaps: tuple[list[tuple[float, int, Flow]], ...] = ([], [], [])

    @property
    def active(self) -> int:
        """Slots in use, but for the quiet ones that have a share of their own."""
        return self.used - min(self.quiet, self.limits.per_origin)

    @property
    def room(self) -> int:
        """Requests that may be under way: as set, and no more than the line can feed."""
        return min(self.limits.per_origin, self.line.room)

    def admits(self, priority: Priority) -> bool:
        """Whether one more request of this priority may be sent, whoever's it is."""
        if priority is Priority.DEMANDED:
            return self.active < self.room
        if priority is Priority.BACKGROUND and any(self.waiting[:2]):
            return False
        return self.active < min(self.room, self.line.full(self.limits.span_pieces))

    def share(self, flow: Flow) -> int:
        """Most active requests of one client: three quarters while it is alone, then an equal part, or a quarter."""
        most = most_of(self.limits.per_origin) if self.busy <= 1 else self.room // min(self.busy, 4)
        return max(1, most) * flow.client.weight
