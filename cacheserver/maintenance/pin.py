"""One pin: what an operator wants kept, how far it is, and how it is shown.

Owns: the states of a pin and its facts for the admin API. Must not fetch, store or write anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cacheserver.core.request.target import Target
from cacheserver.store.stored_object import StoredObject


class PinState(Enum):
    """Where a pin stands."""

    QUEUED = "queued"
    """It waits for one of the lanes."""
    FILLING = "filling"
    """It is being looked at, and fetched where pieces are missing."""
    COMPLETE = "complete"
    """Everything is stored; losing a piece, or a new generation, makes it QUEUED again."""
    WAITING = "waiting"
    """It failed, or lost something a moment ago, and is tried again later; ``reason`` says why."""


@dataclass(slots=True, eq=False)
class Pin:
    """One pinned URL; ``volume``, ``size_bytes`` and ``changed`` as in ``pins_file.SavedPin``."""

    url: str
    object_id: str
    volume: str = ""
    size_bytes: int = 0
    changed: int = 0
    state: PinState = PinState.WAITING
    reason: str = ""
    tries: int = 0
    """Failures in a row."""
    told: bool = False
    """Whether its completion needs no event any more."""
    timer: asyncio.TimerHandle | None = None
    length_bytes: int | None = None
    stored_bytes: int = 0
    trust: str = ""

    def see(self, obj: StoredObject) -> None:
        """Take note of what is stored."""
        self.length_bytes = obj.representation.length_bytes
        self.stored_bytes = obj.pieces.stored_bytes
        self.trust = obj.representation.trust.word

    def stop_timer(self) -> None:
        """Cancel the look that is due later."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def report(self, target: Target | None) -> dict[str, Any]:
        """Its facts. The query is left out where the service says that it is a token."""
        shown = self.url if target is not None and target.service.query == "keep" else self.url.partition("?")[0]
        complete = self.state is PinState.COMPLETE
        share = 0 if not self.length_bytes else 100 * self.stored_bytes // self.length_bytes
        return {
            "url": shown,
            "object_id": self.object_id,
            "state": self.state.value,
            "reason": self.reason,
            "complete": complete,
            "percent": 100 if complete else min(99, share),
            "length_bytes": self.length_bytes,
            "stored_bytes": self.stored_bytes,
            "trust": self.trust,
            "volume": self.volume,
        }
