"""What became of a request for an object that the store does not answer: stored, relayed or answered.

Owns: those values. Must not ask or store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cacheserver.core.cache.answer import Asked
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.http.ranges import ContentRange, parse_content_range
from cacheserver.fill.asking import Opened
from cacheserver.fill.metadata import Metadata
from cacheserver.ports import UpstreamAnswer
from cacheserver.store.stored_object import StoredObject

CODING = "coding"
"""Reason of a ``Relayed``: the origin chose a content coding for a client that left it free."""
OF_THE_REQUEST = ("authorization", "request-no-store")
"""Reasons of a ``Relayed`` that say nothing of the next client's request."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer became an object. ``opened`` is the answer that begins to fill it, None where there is none."""

    obj: StoredObject
    opened: Opened | None = None
    metadata: Metadata | None = None
    leaves: bool = False
    """Whether the origin forbids to keep it any longer: it is served to those who asked, and removed."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The answer may not or cannot be stored. ``prefix`` are body bytes already read; ``asked`` is what it answers."""

    answer: UpstreamAnswer
    asked: Asked
    reason: str
    remember: bool
    prefix: bytes = b""

    @property
    def covers_all(self) -> bool:
        """Whether a 206 holds the whole representation."""
        span = parse_content_range(self.answer.fields.first("Content-Range") or "")
        return isinstance(span, ContentRange) and (span.start, span.stop) == (0, span.total)


Opening = Stored | Relayed | Answered


def close_relayed(task: asyncio.Task[Opening]) -> None:
    """Close the answer of an opening that is left without a reader."""
    if not task.cancelled() and task.exception() is None and isinstance(outcome := task.result(), Relayed):
        outcome.answer.close()
