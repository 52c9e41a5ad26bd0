"""Completing an object that no client waits for, after all clients' requests: pinned content.

Owns: one upstream request after the other for the missing pieces, each in a slot that nothing more urgent wanted.
Pieces are claimed only while the slot is held, so that no client ever waits for a request that is still in the queue.
Must not decide what is to be completed, or when to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.turns.shares import Priority
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.slots import Errand


async def complete(fill: ObjectFill, wanted: Callable[[], bool]) -> None:
    """Fetch every missing piece, or as many as come while it is ``wanted``.

    Raises UpstreamError or StoreError, what ended a request early; GenerationChanged when the object is no more.
    """
    with fill.completing(wanted):
        while wanted() and not fill.obj.pieces.complete and not fill.obj.obsolete:
            await _step(fill)
        if fill.obj.obsolete:
            raise GenerationChanged("the object was replaced while it was completed")


async def _step(fill: ObjectFill) -> None:
    """One upstream request, or a wait for another one."""
    if fill.flights and not fill.takes_spans:
        await asyncio.wait(list(fill.flights.values()), return_when=asyncio.FIRST_COMPLETED)
    elif _next_span(fill) is None:
        await fill.progress.wait(fill.obj.pieces.pieces_in_state(0, len(fill.obj.pieces), ABSENT)[0])
    else:
        target, errand = fill.want.target, Errand(priority=Priority.BACKGROUND)
        slot = await fill.context.asker.slots.take(target.origin, target.object_id, errand)
        try:
            span = _next_span(fill)
            if span is not None and not fill.obj.obsolete and (fill.takes_spans or not fill.flights):
                await fill.fetch(*span, errand)
        finally:
            slot.give_back()


def _next_span(fill: ObjectFill) -> tuple[int, int] | None:
    """The first missing pieces without a claim; None where all that is missing is on its way."""
    run = next(fill.obj.pieces.missing_runs(0, len(fill.obj.pieces), fill.progress.claims), None)
    if run is None or not fill.takes_spans:
        return run
    return run[0], min(run[1], run[0] + fill.span_pieces)
