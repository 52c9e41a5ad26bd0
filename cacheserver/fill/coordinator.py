"""The one place that starts fills: collapses openings and piece fetches node-wide (I2).

Owns: which openings and object fills are under way. Must not write to clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.errors import GenerationChanged, StoreError, UpstreamError
from cacheserver.core.http.fields import Fields
from cacheserver.core.turns.shares import Priority
from cacheserver.fill.asking import Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.metadata import NOTHING, Metadata, MetadataFetcher
from cacheserver.fill.object.completion import complete
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.opening import Opener
from cacheserver.fill.outcome import OF_THE_REQUEST, Opening, Stored, close_relayed
from cacheserver.fill.remembered import Remembered
from cacheserver.fill.slots import Errand
from cacheserver.fill.snapshots import FillSnapshot, snapshots
from cacheserver.ports import Clock
from cacheserver.store.stored_object import StoredObject, VaryMarker

_log = logging.getLogger(__name__)
_MUTE = "an anchor that may confirm the content could not be asked"


class Coordinator:
    """Fills of the whole node."""

    def __init__(self, context: FillContext, *, opener: Opener, fetcher: MetadataFetcher, clock: Clock) -> None:
        self._context = context
        self._opener = opener
        self._fetcher = fetcher
        self.remembered = Remembered(context, clock)
        self._fills: dict[StoredObject, ObjectFill] = {}
        self.passes = self.remembered.passes
        self._openings = SingleFlight[str, Opening]("open", given_up=context.asker.slots.waits)
        self._metadata = SingleFlight[ObjectFill, None]("metadata")
        context.store.notifications.purged.append(self._openings.leave)
        context.store.notifications.withdrawn.append(self._note_withdrawn)

    # -- opening ------------------------------------------------------------------------------------------------

    async def open(self, want: Want, demand: tuple[int, int | None] | None) -> tuple[Opening, bool]:
        """Open an object that is not stored: ``(outcome, first)``. Raises UpstreamError.

        GenerationChanged: another request was refused or failed, one for another URL or with other fields. That says
        nothing of this one: look up, and ask, again.

        ``first`` is True for the caller that started it. For the others a ``Stored`` object may be another variant,
        so they look theirs up, and a ``Relayed`` answer is not theirs to read, so they pass.
        """
        object_id, asked = want.target.object_id, self.remembered.question(want)
        remembered = self.remembered.refusal(want)
        if remembered is not None:
            return remembered, False
        first = object_id not in self._openings
        same = first or self._openings.is_started_by(object_id, asked)
        if not first:
            self._context.asker.slots.join(self._openings.task(object_id), want.client)
            if not want.collapsed:
                self._context.meter.collapsed()
        left = close_relayed if first else None
        try:
            outcome = await self._openings.run(object_id, lambda: self._open(want, demand), by=asked, on_cancelled=left)
        except UpstreamError as exc:
            if same:
                raise
            raise GenerationChanged("another request failed") from exc
        if not same and (isinstance(outcome, Answered) or getattr(outcome, "reason", "") in OF_THE_REQUEST):
            raise GenerationChanged("another request was refused")
        return outcome, first

    async def open_in_background(self, want: Want) -> tuple[Opening, bool]:
        """``open`` for its length alone, once no client wants the slot."""
        target, errand = want.target, Errand(priority=Priority.BACKGROUND)
        # A client that comes while this one is queued opens the object itself.
        (await self._context.asker.slots.take(target.origin, target.object_id, errand)).give_back()
        return await self.open(want, None)

    async def _open(self, want: Want, demand: tuple[int, int | None] | None) -> Opening:
        since = self._context.store.purges
        outcome = await self._opener.open(replace(want, since=since), demand)
        await self.begin(outcome, want, since)
        self.remembered.note(want, outcome, since)
        return outcome

    async def begin(self, outcome: Opening, want: Want, since: int) -> None:
        """Start the fill of an object that an answer to ``want`` has just made; nothing for any other outcome.

        ``since``: the number of purges when it was asked for.
        Called before the loop runs anything else: until then the object cannot be found, and from then on it has a
        fill, so that no other client fetches what is on its way (I2).
        """
        if not isinstance(outcome, Stored):
            return
        obj, opened = outcome.obj, outcome.opened
        if opened is not None:
            fill = self._fill(obj, want, opened.answer.fields, outcome.metadata)
            first, stop = obj.pieces.covering(opened.accepted.start, opened.accepted.stop or obj.pieces.length_bytes)
            fill.start(first, stop, Priority.DEMANDED, opened)
        if outcome.metadata is not None and outcome.metadata.unknown:
            self._context.store.notifications.unjudged(obj)
        stored = obj.representation
        if stored.vary:
            marker = VaryMarker(want.target.object_id, stored.vary, stored.marker)
            await self._context.store.mark_vary(marker, service=stored.service, since=since)

    # -- reading ------------------------------------------------------------------------------------------------

    def reader(self, obj: StoredObject, want: Want, start: int, stop: int, *, whole: bool) -> Reader:
        """A reader that is told how far it may go and keeps its pieces coming; close it."""
        return self._fill(obj, want, obj.representation.fields, None).reader(want, start, stop, whole=whole)

    async def complete(self, obj: StoredObject, want: Want, wanted: Callable[[], bool]) -> None:
        """Fetch what is missing of an object after all clients' requests, as long as it is ``wanted``."""
        if not obj.pieces.complete:
            await complete(self._fill(obj, want, obj.representation.fields, None), wanted)

    async def recheck(self, obj: StoredObject, want: Want) -> None:
        """Ask again for the metadata of an object that is stored, and hold the object against it.

        An object that is being filled has metadata already, or waits for it.
        """
        if obj.usable:
            await self._metadata.settled(self._fill(obj, want, obj.representation.fields, None))

    def _fill(self, obj: StoredObject, want: Want, response: Fields, metadata: Metadata | None) -> ObjectFill:
        fill = self._fills.get(obj)
        if fill is None:
            state = MetadataState(
                metadata,
                expected=self._fetcher.expects_manifest(want.target),
                piece_size_bytes=obj.representation.piece_size_bytes,
            )
            flapping = partial(self.remembered.note_flapping, want.target.object_id)
            fill = ObjectFill(
                obj,
                want,
                self._context,
                metadata=state,
                response=response,
                on_idle=self._fills.pop,
                on_flapping=flapping,
            )
            self._fills[obj] = fill
            outdated = metadata is not None and metadata.era != self._fetcher.era
            if outdated:  # something else was said before the object was made
                fill.doubt()
            if outdated or state.pending:
                self._ask_for(fill)
        return fill

    def ask_again(self) -> None:
        """What is said of contents has changed: have all that is on its way held against what is said now.

        Last pieces wait for it.
        """
        self._fetcher.era += 1
        for fill in self._fills.values():
            if fill not in self._metadata:  # one that is asking begins anew by itself
                fill.doubt()
                self._ask_for(fill)

    def _ask_for(self, fill: ObjectFill) -> None:
        asking = self._metadata.start(fill, lambda: self._verify(fill))
        fill.obj.hold_for(asking)
        asking.add_done_callback(lambda _ended: fill.verified())

    def _note_withdrawn(self, obj: StoredObject) -> None:
        """What the fill of an object that has gone has begun of a piece keeps that object no longer."""
        if obj.obsolete and (fill := self._fills.get(obj)) is not None:
            fill.rest()

    async def _learnt(self, fill: ObjectFill) -> tuple[int, Metadata]:
        """What is said of a content, by those who say something now, and the fetcher's era in which it is said."""
        rep = fill.obj.representation
        while True:
            era, known, content = self._fetcher.era, fill.metadata.known, (fill.want, fill.response)
            again = self._fetcher.fetch if known is None else partial(self._fetcher.again, known)
            metadata = await again(*content, secure=rep.secure, length_bytes=rep.length_bytes)
            if era == self._fetcher.era:
                demands = fill.want.target.service.require == "anchored"
                mute = demands and metadata.unknown and not metadata.anchored
                return era, replace(metadata, blocked=_MUTE) if mute else metadata

    async def _verify(self, fill: ObjectFill) -> None:
        """Fetch an object's metadata beside its first bytes."""
        era = -1
        try:
            while era != self._fetcher.era:
                if fill.checks.settled:  # it was compared with what is not said any more
                    fill.doubt()
                era, metadata = await self._learnt(fill)
                await fill.checks.settle(metadata)
            if metadata.unknown and not fill.obj.obsolete:
                self._context.store.notifications.unjudged(fill.obj)
        except asyncio.CancelledError:
            await fill.checks.stop()  # what is unknown is not nothing
            raise
        except StoreError:
            _log.warning("what is stored could not be held against its metadata")
        except Exception:
            _log.exception("metadata could not be fetched")
        if not fill.checks.settled:
            await fill.checks.settle(fill.metadata.known or replace(NOTHING, unknown=True))

    # -- what is under way ----------------------------------------------------------------------------------------

    @property
    def reader_count(self) -> int:
        """Answers that are being fed by fills; may be asked from another thread."""
        return sum(len(fill.demand.readers) for fill in list(self._fills.values()))

    def snapshots(self, limit: int) -> tuple[list[FillSnapshot], int]:
        """What is being fetched now, at most ``limit`` objects, and how many there are."""
        return snapshots(self._fills.values(), limit)

    @property
    def fills_in_flight(self) -> int:
        """Upstream fill requests under way or queued."""
        return sum(len(fill.flights) for fill in self._fills.values())

    async def stop(self) -> None:
        """End every fill; pieces in hand are given up, finished ones are kept."""
        await self._openings.stop()
        await self._metadata.stop()
        for fill in list(self._fills.values()):
            await fill.cancel(fill.flights)
