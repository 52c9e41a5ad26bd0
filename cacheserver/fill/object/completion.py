"""Completing an object that no client waits for, behind every client: pinned content.

Owns: one upstream request after the other for what is missing, each in a slot that nobody more urgent wanted. Nothing
is claimed before its slot is held, so that no client ever waits for a request that is still in the queue. Must not
decide what is to be completed, or when to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.slots import Priority, Slots

if TYPE_CHECKING:
    from cacheserver.fill.object.fill import ObjectFill


class Completion:
    """Completes the object of one fill, by at most ``span_pieces`` pieces at a time."""

    def __init__(self, fill: ObjectFill, *, slots: Slots, span_pieces: int) -> None:
        self._fill = fill
        self._slots = slots
        self._span_pieces = span_pieces

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Have every missing piece fetched, or as many as come before ``wanted`` says no more.

        Raises UpstreamError or StoreError, what ended a request early; GenerationChanged when the object is no more.
        """
        fill = self._fill
        fill.behind += 1
        try:
            while wanted() and not fill.obj.pieces.complete and not fill.obj.obsolete:
                await self._step()
            if fill.obj.obsolete:
                raise GenerationChanged("the object was replaced while it was completed")
        finally:
            fill.behind -= 1
            fill.rest()

    async def _step(self) -> None:
        """One upstream request, or a wait for somebody else's."""
        fill = self._fill
        if fill.flight_count and not fill.takes_spans:
            await asyncio.wait(list(fill.flights.values()), return_when=asyncio.FIRST_COMPLETED)
        elif self._next_span() is None:
            await fill.progress.wait(fill.obj.pieces.pieces_in_state(0, len(fill.obj.pieces), ABSENT)[0])
        else:
            async with self._slots.slot(fill.want.target.origin, Priority.BACKGROUND):
                span = self._next_span()
                if span is not None and not fill.obj.obsolete and (fill.takes_spans or not fill.flight_count):
                    await self._fetch(*span)

    async def _fetch(self, first: int, stop: int) -> None:
        """Fetch pieces ``[first, stop)`` in the slot that is held."""
        fill = self._fill
        if (refusal := fill.store_refuses()) is not None:
            raise refusal
        if not fill.obj.representation.combinable:
            await fill.abandon(GenerationChanged("the object cannot be completed"))
            return
        flight = fill.start(first, stop, None)
        try:
            error = await asyncio.shield(fill.flights[flight])
        except asyncio.CancelledError:
            await fill.cancel_flights([flight] if flight in fill.flights else [])
            raise
        if error is not None:
            raise error

    def _next_span(self) -> tuple[int, int] | None:
        """The first missing pieces that are nobody's; None where all that is missing is on its way."""
        pieces = self._fill.obj.pieces
        run = next(pieces.missing_runs(0, len(pieces), self._fill.progress.claims), None)
        if run is None or not self._fill.takes_spans:
            return run
        return run[0], min(run[1], run[0] + self._span_pieces)
