"""The one place that starts fills: collapses openings, revalidations and piece fetches node-wide (I2).

Owns: which openings and object fills are under way, the short memories of what passes and what is refused. Must not
write to clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cacheserver.core.cache.answer import Asked
from cacheserver.core.cache.freshness import received_age_s
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import CacheserverError, GenerationChanged, OriginStatus, StoreError
from cacheserver.core.http.field_rules import merge_304, storable_fields
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import variant_key
from cacheserver.core.request.keys import object_id
from cacheserver.fill.asking import Asker, Opened, Want
from cacheserver.fill.metadata import NOTHING, Metadata, MetadataFetcher
from cacheserver.fill.object.completion import Completion
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.opening import Answered, Opener, Opening, Relayed, Stored, dated
from cacheserver.fill.options import FillOptions
from cacheserver.fill.slots import Priority, Slots
from cacheserver.fill.snapshots import FillSnapshot, snapshots
from cacheserver.ports import Clock, Meter, UpstreamAnswer
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker

T = TypeVar("T")
_log = logging.getLogger(__name__)
_MEMORY_ENTRIES = 4096
_NEGATIVE = (404, 410)


class Coordinator:
    """Fills of the whole node."""

    def __init__(
        self,
        *,
        store: Store,
        asker: Asker,
        opener: Opener,
        fetcher: MetadataFetcher,
        options: FillOptions,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self.asker = asker
        self._fetcher = fetcher
        self._store = store
        self._opener = opener
        self._options = options
        self._meter = meter
        self._clock = clock
        self._slots = Slots(per_origin=options.per_origin, total=options.total)
        self._fills: dict[StoredObject, ObjectFill] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._passes: OrderedDict[str, float] = OrderedDict()
        self._refusals: OrderedDict[str, tuple[float, Answered]] = OrderedDict()

    # -- finding ------------------------------------------------------------------------------------------------

    def peek(self, want: Want) -> StoredObject | None:
        """The stored object for a want if it is open already; no I/O."""
        key, found = want.target.key, self._store.peek(want.target.object_id)
        if isinstance(found, VaryMarker):
            key = self._variant_key(want, found)
            found = self._store.peek(object_id(key))
        return self._usable(found, key)

    async def find(self, want: Want) -> StoredObject | None:
        """The stored object for a want, whatever its freshness."""
        key, found = want.target.key, await self._store.find(want.target.object_id)
        if isinstance(found, VaryMarker):
            key = self._variant_key(want, found)
            found = await self._store.find(object_id(key))
        return self._usable(found, key)

    def _usable(self, found: StoredObject | VaryMarker | None, key: str) -> StoredObject | None:
        """What was found, if it has this key; None for what is to be stored anew on another volume."""
        if not isinstance(found, StoredObject) or found.representation.key != key or self._store.should_move(found):
            return None
        return found

    def _variant_key(self, want: Want, marker: VaryMarker) -> str:
        return variant_key(want.target.key, marker.names, self.asker.upstream_fields(want))

    # -- opening ------------------------------------------------------------------------------------------------

    def passes(self, want: Want) -> bool:
        """Whether this key could not be stored a moment ago and is passed at once."""
        until = self._passes.get(want.target.object_id)
        return until is not None and until > self._clock.monotonic_s()

    async def open(self, want: Want, demand: tuple[int, int | None] | None) -> tuple[Opening, bool]:
        """Open an object that is not stored: ``(outcome, first)``. Raises UpstreamError.

        ``first`` is True for the caller that started it. For the others a ``Stored`` object may be another variant,
        so they look theirs up, and a ``Relayed`` answer is not theirs to read, so they pass.
        """
        remembered = self._refusals.get(want.target.object_id)
        if remembered is not None and remembered[0] > self._clock.monotonic_s():
            return remembered[1], False
        name = f"open {want.target.object_id}"
        if name in self._tasks:
            self._meter.collapsed()
            return await self._shared(name), False
        outcome = await self._flight(name, self._open(want, demand))
        return outcome, True

    async def open_in_background(self, want: Want) -> tuple[Opening, bool]:
        """``open`` for its length alone, once no client wants the slot; nobody waits for one that is still queued."""
        async with self._slots.slot(want.target.origin, Priority.BACKGROUND):
            pass
        return await self.open(want, None)

    async def _open(self, want: Want, demand: tuple[int, int | None] | None) -> Opening:
        async with self._slots.slot(want.target.origin, Priority.DEMANDED):
            outcome = await self._opener.open(want, demand, self._start)
        if isinstance(outcome, Relayed) and outcome.remember:
            _remember(self._passes, want.target.object_id, self._clock.monotonic_s() + self._options.pass_memory_s)
        shipped = not want.target.service.own
        if isinstance(outcome, Answered) and shipped and outcome.status in _NEGATIVE and self._options.negative_s:
            until = self._clock.monotonic_s() + self._options.negative_s
            _remember(self._refusals, want.target.object_id, (until, outcome))
        return outcome

    def _start(self, obj: StoredObject, want: Want, opened: Opened, metadata: Metadata | None) -> None:
        first = obj.pieces.piece_at(opened.accepted.start)
        stop = obj.pieces.covering(opened.accepted.start, opened.accepted.stop or obj.pieces.length_bytes)[1]
        fill = self._fill(obj, want, opened.answer.fields, metadata)
        fill.want = want
        fill.start(first, stop, Priority.DEMANDED, opened)

    # -- reading ------------------------------------------------------------------------------------------------

    def reader(self, obj: StoredObject, want: Want, start: int, stop: int, *, whole: bool) -> Reader:
        """A reader that is told how far it may go and keeps its pieces coming; close it."""
        fill = self._fill(obj, want, obj.representation.fields, None)
        fill.want = want
        return fill.reader(start, stop, whole=whole)

    async def complete(self, obj: StoredObject, want: Want, wanted: Callable[[], bool]) -> None:
        """Fetch what is missing of an object behind all clients, as long as it is ``wanted``."""
        if not obj.pieces.complete:
            fill = self._fill(obj, want, obj.representation.fields, None)
            await Completion(fill, slots=self._slots, span_pieces=self._options.span_pieces).run(wanted)

    def _fill(self, obj: StoredObject, want: Want, response: Fields, metadata: Metadata | None) -> ObjectFill:
        fill = self._fills.get(obj)
        if fill is None:
            state = MetadataState(metadata)
            fill = self._fills[obj] = ObjectFill(
                obj,
                want,
                store=self._store,
                asker=self.asker,
                slots=self._slots,
                options=self._options,
                meter=self._meter,
                metadata=state,
                on_idle=lambda idle: self._fills.__delitem__(idle.obj) if self._fills.get(idle.obj) is idle else None,
            )
            if state.pending:
                fill.progress.holding = self._fetcher.expects_manifest(want.target)
                self._start_task(f"metadata {id(fill)}", self._verify(fill, want, response))
        return fill

    async def _verify(self, fill: ObjectFill, want: Want, response: Fields) -> None:
        """Fetch an object's metadata beside its first bytes."""
        rep = fill.obj.representation
        fill.obj.hold()
        try:
            metadata = await self._fetcher.fetch(
                want, response, length_bytes=rep.length_bytes, piece_size_bytes=rep.piece_size_bytes
            )
            await fill.checks.settle(metadata)
        except StoreError:
            _log.warning("what is stored could not be held against its metadata")
        finally:
            if fill.metadata.pending:
                await fill.checks.settle(NOTHING)
            fill.obj.release()

    # -- revalidating -------------------------------------------------------------------------------------------

    async def revalidate(self, obj: StoredObject, want: Want) -> Opening:
        """Ask the origin whether a stored object still holds; collapsed per object. UpstreamError when it is mute."""
        name = f"revalidate {obj.object_id}"
        if name in self._tasks:
            self._meter.collapsed()
            outcome = await self._shared(name)
            if isinstance(outcome, Relayed) or (isinstance(outcome, Answered) and not speaks_for_all(outcome)):
                raise GenerationChanged("the answer was meant for another client")
        else:
            outcome = await self._flight(name, self._revalidate(obj, want))
        assert isinstance(outcome, Stored | Relayed | Answered)
        return outcome

    def revalidate_in_background(self, obj: StoredObject, want: Want) -> None:
        """The same without waiting; a failure leaves the stale object as it is."""
        name = f"revalidate {obj.object_id}"
        if name not in self._tasks:
            self._start_task(name, self._quietly(self._revalidate(obj, want)))

    async def _quietly(self, revalidation: Coroutine[Any, Any, Opening]) -> None:
        try:
            outcome = await revalidation
            if isinstance(outcome, Relayed):
                outcome.answer.close()
        except CacheserverError:
            pass

    async def _revalidate(self, obj: StoredObject, want: Want) -> Opening:
        known = obj.representation
        extra: list[tuple[str, str]] = []
        if known.validators.etag is not None:
            extra.append(("If-None-Match", known.validators.etag))
        if known.validators.last_modified is not None:
            extra.append(("If-Modified-Since", known.validators.last_modified))
        async with self._slots.slot(want.target.origin, Priority.DEMANDED):
            answer = await self.asker.send(want, extra=tuple(extra))
        if answer.status == 304:
            answer.close()
            return await self._refresh(obj, answer)
        asked = Asked(0, None, whole=True)
        if answer.status != 200:
            if answer.status < 500 and answer.status not in (408, 425, 429):
                if answer.status < 400 or answer.status in _NEGATIVE:
                    await self._store.forget(obj.object_id, reason="superseded")
                return await self._opener.refusal(answer, asked)
            answer.close()
            raise OriginStatus(answer.status, source=answer.source)
        opened = self.asker.checked(want, answer, asked)
        if _is_same(known, opened):
            answer.close()
            return await self._refresh(obj, answer)
        outcome = await self._opener.take(want, opened, asked, self._start)
        if not isinstance(outcome, Stored):
            await self._store.forget(obj.object_id, reason="superseded")
        return outcome

    async def _refresh(self, obj: StoredObject, answer: UpstreamAnswer) -> Stored:
        """Take up the fields and times of an answer that says: what is stored still holds."""
        known = obj.representation
        refreshed = known.refreshed(
            dated(merge_304(known.fields, storable_fields(answer.fields)), answer.response_time_s),
            request_time_s=answer.request_time_s - received_age_s(answer.fields),
            response_time_s=answer.response_time_s,
        )
        await self._store.refresh(obj, refreshed)
        return Stored(obj)

    # -- tasks --------------------------------------------------------------------------------------------------

    async def _flight(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        task = self._start_task(name, work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_close_relayed)
            raise

    def _start_task(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task.get_name()]
        if not task.cancelled():
            task.exception()

    async def _shared(self, name: str) -> Any:
        return await asyncio.shield(self._tasks[name])

    @property
    def reader_count(self) -> int:
        """Answers that are being fed by fills; may be asked from another thread."""
        return sum(fill.reader_count for fill in list(self._fills.values()))

    def snapshots(self, limit: int) -> tuple[list[FillSnapshot], int]:
        """What is being fetched now, at most ``limit`` objects, and how many there are."""
        return snapshots(self._fills.values(), limit)

    @property
    def fills_in_flight(self) -> int:
        """Upstream fill requests under way or queued."""
        return sum(fill.flight_count for fill in self._fills.values())

    async def stop(self) -> None:
        """End every fill; pieces in hand are given up, finished ones are kept."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for fill in list(self._fills.values()):
            await fill.cancel()


def _is_same(known: Representation, opened: Opened) -> bool:
    """Whether a 200 to a conditional request is what is stored already: the origin does not do 304."""
    tag = opened.accepted.validators.strong_etag
    return tag is not None and tag == known.validators.strong_etag and opened.accepted.total == known.length_bytes


def speaks_for_all(answered: Answered) -> bool:
    """Whether a refusal says something of the object, not of one client's range, token or credentials."""
    return answered.status < 400 or answered.status in _NEGATIVE or answered.status >= 500


def _close_relayed(task: asyncio.Task[Any]) -> None:
    """Nobody is left to read the answer."""
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Relayed):
        task.result().answer.close()


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MEMORY_ENTRIES:
        memory.popitem(last=False)
