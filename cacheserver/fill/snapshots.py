"""What an operator sees of a fill: which content, how far it has come, who waits.

Owns: the shape of that snapshot, and cutting names down to what fits. Must not show a query: tokens live there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cacheserver.fill.object.fill import ObjectFill

PATH_LIMIT: Final = 200
"""Characters of a path that are shown."""


@dataclass(frozen=True, slots=True)
class FillSnapshot:
    """One object that is being fetched; ``key`` is host and path of its cache key, ``host`` the origin asked."""

    service: str
    key: str
    host: str
    length_bytes: int
    stored_bytes: int
    """What is there of it, bytes of unfinished pieces included."""
    requests: int
    """Upstream requests under way or queued."""
    readers: int
    """Answers that it feeds."""


def snapshots(fills: Iterable[ObjectFill], limit: int) -> tuple[list[FillSnapshot], int]:
    """The first ``limit`` objects with requests under way, in the order in which they began, and how many there are."""
    running = [fill for fill in fills if fill.flights]
    return [_snapshot(fill) for fill in running[:limit]], len(running)


def _snapshot(fill: ObjectFill) -> FillSnapshot:
    pieces, rep = fill.obj.pieces, fill.obj.representation
    _service, _scheme, host, path, *_rest = rep.key.split("\n")
    return FillSnapshot(
        service=rep.service,
        key=shortened(host + path),
        host=fill.want.target.host,
        length_bytes=pieces.length_bytes,
        stored_bytes=min(pieces.length_bytes, pieces.stored_bytes + fill.progress.arrived_bytes),
        requests=len(fill.flights),
        readers=len(fill.demand.readers),
    )


def shortened(text: str) -> str:
    """At most ``PATH_LIMIT`` characters: begin and end of what is longer, which tell host and file."""
    if len(text) <= PATH_LIMIT:
        return text
    half = (PATH_LIMIT - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
