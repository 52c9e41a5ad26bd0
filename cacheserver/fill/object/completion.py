"""Completing an object that no client waits for, after all clients' requests: pinned content.

Owns: one upstream request after the other for what is missing, each in a slot that nothing more urgent wanted. Pieces
are claimed only while the slot is held, so that no client ever waits for a request that is still in the queue. Must not
decide what is to be completed, or when to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.asking import Want
from cacheserver.fill.object.progress import Progress
from cacheserver.fill.slots import Priority, Slots
from cacheserver.store.stored_object import StoredObject


class _Fill(Protocol):
    """What a completion needs of its object's fill; see ``ObjectFill``."""

    obj: StoredObject
    want: Want
    progress: Progress

    @property
    def takes_spans(self) -> bool: ...
    @property
    def flight_tasks(self) -> Collection[asyncio.Task[Any]]: ...
    def completing(self) -> AbstractContextManager[None]: ...
    async def fetch(self, first: int, stop: int) -> None: ...


class Completion:
    """Completes the object of one fill, by at most ``span_pieces`` pieces at a time."""

    def __init__(self, fill: _Fill, *, slots: Slots, span_pieces: int) -> None:
        self._fill = fill
        self._slots = slots
        self._span_pieces = span_pieces

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Fetch every missing piece, or as many as come before ``wanted`` says no more.

        Raises UpstreamError or StoreError, what ended a request early; GenerationChanged when the object is no more.
        """
        obj = self._fill.obj
        with self._fill.completing():
            while wanted() and not obj.pieces.complete and not obj.obsolete:
                await self._step()
            if obj.obsolete:
                raise GenerationChanged("the object was replaced while it was completed")

    async def _step(self) -> None:
        """One upstream request, or a wait for another one."""
        fill = self._fill
        if fill.flight_tasks and not fill.takes_spans:
            await asyncio.wait(fill.flight_tasks, return_when=asyncio.FIRST_COMPLETED)
        elif self._next_span() is None:
            await fill.progress.wait(fill.obj.pieces.pieces_in_state(0, len(fill.obj.pieces), ABSENT)[0])
        else:
            async with self._slots.slot(fill.want.target.origin, Priority.BACKGROUND):
                span = self._next_span()
                if span is not None and not fill.obj.obsolete and (fill.takes_spans or not fill.flight_tasks):
                    await fill.fetch(*span)

    def _next_span(self) -> tuple[int, int] | None:
        """The first missing pieces without a claim; None where all that is missing is on its way."""
        pieces = self._fill.obj.pieces
        run = next(pieces.missing_runs(0, len(pieces), self._fill.progress.claims), None)
        if run is None or not self._fill.takes_spans:
            return run
        return run[0], min(run[1], run[0] + self._span_pieces)
