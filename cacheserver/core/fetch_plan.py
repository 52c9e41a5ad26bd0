"""Which missing pieces to ask for next: a pure plan over the piece map and what readers want.

Owns: the order and size of upstream requests for one object. What a reader is stopped at comes first; behind it,
read-ahead, as long as the object has room for more requests in flight.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from cacheserver.core.piece_map import PieceMap


@dataclass(frozen=True, slots=True)
class Window:
    """Pieces ``[first, stop)`` that one reader wants, in its order; ``waiting`` when it is stopped at ``first``."""

    first: int
    stop: int
    waiting: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Contiguous pieces ``[first, stop)`` for one upstream request."""

    first: int
    stop: int
    demanded: bool


def plan_spans(
    pieces: PieceMap, claimed: Container[int], windows: Sequence[Window], *, span_pieces: int, room: int
) -> list[Span]:
    """Spans to start now: a waiting reader's first one whatever ``room`` says, read-ahead with what is left of it."""
    taken: set[int] = set()
    spans: list[Span] = []

    class _Claimed:
        def __contains__(self, piece: object) -> bool:
            return piece in taken or piece in claimed

    def take(first: int, stop: int, demanded: bool) -> None:
        spans.append(Span(first, stop, demanded))
        taken.update(range(first, stop))

    for window in windows:
        if window.waiting:
            for first, stop in pieces.missing_runs(
                window.first, min(window.first + span_pieces, window.stop), _Claimed()
            ):
                if first == window.first:
                    take(first, stop, True)
                break
    ahead = sorted({(window.first, window.stop) for window in windows})
    for first, stop in ahead:
        for run_first, run_stop in pieces.missing_runs(first, stop, _Claimed()):
            for begin in range(run_first, run_stop, span_pieces):
                if len(spans) >= room:
                    return spans
                take(begin, min(begin + span_pieces, run_stop), False)
    return spans
