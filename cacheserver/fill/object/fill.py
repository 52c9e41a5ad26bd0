"""Everything under way for one object: its readers, what they want next, the flights that fetch it.

Owns: the decision when to start a flight and when a flight is still wanted (I2, I7). Lives from the first reader that
has to wait until no client reads or is expected back and no flight, completion or check is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

from cacheserver.core.errors import (
    CacheserverError,
    GenerationChanged,
    StoreError,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.plan import plan_spans
from cacheserver.fill.asking import Asker, Opened, Want
from cacheserver.fill.object.checks import PieceChecks
from cacheserver.fill.object.demand import Demand
from cacheserver.fill.object.flight import Flight
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.object.progress import Progress
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.options import FillOptions
from cacheserver.fill.slots import Priority, Slots
from cacheserver.ports import Meter
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject

_REFUSED_S = 5.0
_log = logging.getLogger(__name__)


class ObjectFill:
    """Readers and flights of one object."""

    def __init__(
        self,
        obj: StoredObject,
        want: Want,
        *,
        store: Store,
        asker: Asker,
        slots: Slots,
        options: FillOptions,
        meter: Meter,
        metadata: MetadataState,
        on_idle: Callable[[ObjectFill], None],
    ) -> None:
        self.obj = obj
        self.want = want
        """The latest client's: its token is the one most likely to be valid."""
        self.metadata = metadata
        self.progress = Progress(obj.pieces, holding=metadata.holds, guarding=True)
        self.checks = PieceChecks(
            obj,
            want.target.service,
            store=store,
            asker=asker,
            meter=meter,
            metadata=metadata,
            progress=self.progress,
            abandon=self.abandon,
            on_idle=self.rest,
        )
        self.range_ignored = False
        """The source answers Range with the whole body: one request at a time, from the first missing piece on."""
        self._store = store
        self._asker = asker
        self._slots = slots
        self._options = options
        self._meter = meter
        self._on_idle = on_idle
        self._demand = Demand(obj.pieces, options, on_gone=self.rest)
        self._idle = False
        self._completions = 0
        self._refusal: StoreError | None = None
        self._refused_until_s = 0.0
        self._length_confirmed = True
        """False while only the Content-Length of one whole answer tells it, which a broken body contradicts."""
        self._flights: dict[Flight, asyncio.Task[CacheserverError | None]] = {}
        obj.hold()

    # -- readers ------------------------------------------------------------------------------------------------

    @property
    def reader_count(self) -> int:
        """Answers being fed."""
        return len(self._demand.readers)

    def reader(self, want: Want, start: int, stop: int, *, whole: bool) -> Reader:
        """A reader of bytes ``[start, stop)`` for ``want``; ``whole``: it asked to the end of the object."""
        self.want = want
        reader = Reader(self, start, stop, until_piece=self._demand.until_piece(start, stop, whole=whole))
        self._demand.readers.add(reader)
        return reader

    def leave(self, reader: Reader, *, served: bool) -> None:
        """A reader is done; one that was served may come back for what follows."""
        self._demand.leave(reader, expected=served and not self.obj.pieces.complete and not self.obj.volume.ailing)
        self.rest()

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Around a completion: the fill is kept, and its flights go on without readers."""
        self._completions += 1
        try:
            yield
        finally:
            self._completions -= 1
            self.rest()

    def rest(self) -> None:
        """End unless a client reads or is expected back, or a flight, a completion or a check is under way."""
        busy = self._demand or self._flights or self._completions or self.checks.busy
        if not self._idle and not busy:
            self._idle = True
            self._on_idle(self)
            self.obj.release()

    # -- flights ------------------------------------------------------------------------------------------------

    @property
    def flight_count(self) -> int:
        """Upstream requests under way or queued."""
        return len(self._flights)

    @property
    def flight_tasks(self) -> Collection[asyncio.Task[CacheserverError | None]]:
        """The same, to wait for."""
        return list(self._flights.values())

    @property
    def read_ahead_pieces(self) -> int:
        """How far in front of a reader anything is fetched."""
        return max(1, self._options.read_ahead_pieces)

    def plan_ahead(self) -> None:
        """Plan when a reader has moved and there is room for read-ahead."""
        if len(self._flights) < self._options.parallel and not self.obj.pieces.complete:
            self.plan()

    def plan(self) -> None:
        """Start what should be fetched now."""
        if self.obj.obsolete or self.store_refuses() is not None:
            return
        if not self.takes_spans:
            self._plan_single_stream()
            return
        spans = plan_spans(
            self.obj.pieces,
            self.progress.claims,
            self._demand.windows(),
            span_pieces=self._options.span_pieces,
            room=self._options.parallel - len(self._flights),
        )
        for span in spans:
            self.start(span.first, span.stop, Priority.DEMANDED if span.demanded else Priority.READ_AHEAD)

    def _plan_single_stream(self) -> None:
        if self._flights or not self.obj.representation.combinable:
            return
        pieces = self.obj.pieces
        first = min((window.first for window in self._demand.windows()), default=len(pieces))
        run = next(pieces.missing_runs(first, len(pieces), self.progress.claims), None)
        if run is not None:
            self.start(*run, Priority.DEMANDED)

    @property
    def takes_spans(self) -> bool:
        """Whether pieces may be asked for in several requests at once."""
        return not self.range_ignored and self.obj.representation.combinable

    def start(self, first: int, stop: int, priority: Priority | None, opened: Opened | None = None) -> Flight:
        """Claim pieces ``[first, stop)`` and fetch them; ``priority`` None: the slot is the caller's."""
        flight = Flight(
            self.obj,
            first=first,
            stop=stop,
            progress=self.progress,
            checks=self.checks,
            wanted=self.wanted,
            ask=self._ask,
            store=self._store,
            options=self._options,
            meter=self._meter,
            opened=opened,
            cause=None if opened is None else self.want,
        )
        self.range_ignored = self.range_ignored or (opened is not None and opened.range_ignored)
        if opened is not None and opened.answer.status == 200:
            self._length_confirmed = False
        self.progress.claim(first, stop, flight)
        self._flights[flight] = asyncio.create_task(self._fly(flight, priority), name=f"fill {self.obj.object_id}")
        return flight

    async def fetch(self, first: int, stop: int) -> None:
        """Fetch pieces ``[first, stop)`` in a slot that the caller holds. Raises what ended it early."""
        if (refusal := self.store_refuses()) is not None:
            raise refusal
        if not self.obj.representation.combinable:
            await self.abandon(GenerationChanged("the object cannot be completed"))
            return
        flight = self.start(first, stop, None)
        try:
            error = await asyncio.shield(self._flights[flight])
        except asyncio.CancelledError:
            await self._cancel([flight] if flight in self._flights else [])
            raise
        if error is not None:
            raise error

    async def _fly(self, flight: Flight, priority: Priority | None) -> CacheserverError | None:
        error: CacheserverError | None = None
        try:
            error = await self._flown(flight, priority)
            if isinstance(error, GenerationChanged) or self._cannot_be_completed(error):
                await self.abandon(error or GenerationChanged("the object cannot be completed"))
            elif error is None:
                self.plan()
                await self.checks.check_whole()
        except StoreError:
            _log.warning("what is stored could not be read again")
        finally:
            self.rest()
        return error

    async def _flown(self, flight: Flight, priority: Priority | None) -> CacheserverError | None:
        """Have a flight run to its end; what ended it early."""
        error: CacheserverError | None = None
        turn: AbstractAsyncContextManager[None] = nullcontext()
        if priority is not None:
            turn = self._slots.slot(self.want.target.origin, priority, at_once=flight.has_answer)
        self._meter.fill_started()
        try:
            async with turn:
                await flight.run()
        except CacheserverError as exc:
            error = exc
            if isinstance(exc, StoreError):
                self._refusal, self._refused_until_s = exc, asyncio.get_running_loop().time() + _REFUSED_S
        except Exception as exc:
            _log.exception("fill failed unexpectedly")
            error = CacheserverError(type(exc).__name__)
        finally:
            self._meter.fill_ended()
            self._ended(flight, error)
        return error

    def store_refuses(self) -> StoreError | None:
        """Why nothing can be stored right now; readers go past the store then, and nothing is fetched ahead."""
        if self._refusal is not None and asyncio.get_running_loop().time() >= self._refused_until_s:
            self._refusal = None
        return self._refusal

    def _ended(self, flight: Flight, error: CacheserverError | None) -> None:
        del self._flights[flight]
        self.progress.release(flight, error)

    def _cannot_be_completed(self, error: CacheserverError | None) -> bool:
        """Whether nothing can be added to what is stored, or its very length is in doubt."""
        if self.obj.pieces.complete:
            return False
        doubtful = isinstance(error, UpstreamError) and not self._length_confirmed
        return doubtful or not self.obj.representation.combinable

    async def abandon(self, error: CacheserverError) -> None:
        """Tell all waiters that the object is no more, and forget it."""
        self.progress.fail_all(error)
        if not self.obj.obsolete:
            await self._store.forget(self.obj.object_id, reason="superseded")

    async def _ask(self, start: int, stop: int, avoid: frozenset[str]) -> Opened:
        opened = await self._asker.ask_span(self.want, self.obj.representation, start, stop, avoid)
        self.range_ignored = self.range_ignored or opened.range_ignored
        self._length_confirmed = self._length_confirmed or opened.answer.status == 206
        return opened

    def wanted(self, first: int, stop: int) -> bool:
        """Whether anyone waits for, or is expected to ask for, pieces in ``[first, stop)``."""
        kept = self._options.keep_until == "object" or bool(self._completions)
        return kept or self._demand.covers(first, stop)

    async def cancel(self) -> None:
        """End every flight at once; for a node that goes down."""
        await self._cancel(list(self._flights))

    async def _cancel(self, flights: list[Flight]) -> None:
        """End some of the flights at once."""
        tasks = [self._flights[flight] for flight in flights]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for flight in [flight for flight, task in self._flights.items() if task in tasks]:
            flight.close()  # it was cancelled before its first step
            self._ended(flight, None)
        await self.checks.close()
        self.rest()

    # -- what a reader needs ------------------------------------------------------------------------------------

    def began_before(self, piece: int, moment_s: float, want: Want) -> bool:
        """Whether a piece is being fetched by a flight that began before ``moment_s`` (loop time), not for ``want``."""
        flight = self.progress.claims.get(piece)
        return isinstance(flight, Flight) and flight.began_s < moment_s and flight.cause is not want

    def note_collapse(self) -> None:
        """A reader waits for what another one's request fetches."""
        self._meter.collapsed()

    async def check(self, piece: int) -> None:
        """Have a stored piece checked before its first delivery (I1)."""
        await self._store.check(self.obj, (piece,))

    async def wait(self, piece: int, since_s: float) -> None:
        """Plan, then wait until something happens to ``piece``; ``since_s`` is when its reader began to wait.

        UpstreamTimeout when the reader has waited too long. A held piece is shown after ``hold_timeout_s``, but for
        the last one of an object that is judged as a whole.
        """
        if piece not in self.progress.claims:
            self.plan()
        refusal = self.store_refuses()
        if refusal is not None and piece not in self.progress.claims:
            raise refusal
        if self.obj.obsolete or not self._flights:
            error = GenerationChanged("the object cannot be completed")
            await self.abandon(error)
            raise error
        if self.obj.pieces.state(piece) != ABSENT:
            return
        held = self.progress.holds(piece) and not self.progress.guards(piece)
        patience_s = self._options.hold_timeout_s if held else self._options.first_byte_s
        try:
            async with asyncio.timeout_at(since_s + patience_s):
                await self.progress.wait(piece)
        except TimeoutError as exc:
            if not held:
                raise UpstreamTimeout("no byte came in time", source=self.want.target.origin) from exc
            self.progress.expose(piece)
