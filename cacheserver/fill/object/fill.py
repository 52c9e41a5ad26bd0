"""Everything under way for one object: its readers, what they want next, the flights that fetch it.

Owns: the decision when to start a flight and when a flight is still wanted (I2, I7). Lives from the first reader that
has to wait until no client reads or is expected back and no flight, completion or check is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count

from cacheserver.concurrency.awake import awake_s, awake_timeout
from cacheserver.core.errors import CacheserverError, GenerationChanged, StoreError, UpstreamError, UpstreamTimeout
from cacheserver.core.fetch_plan import plan_spans
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.release import Reason
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.turns.shares import Priority
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.object.begun import BegunPieces
from cacheserver.fill.object.checks import PieceChecks
from cacheserver.fill.object.claims import Progress
from cacheserver.fill.object.demand import Demand
from cacheserver.fill.object.flight import Flight
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.object.spans import Spans
from cacheserver.fill.refreshing import part_with
from cacheserver.fill.slots import AnswerInSlot, Errand
from cacheserver.store.stored_object import StoredObject

_REFUSED_S = 5.0
_log = logging.getLogger(__name__)


class ObjectFill:
    """Readers and flights of one object."""

    def __init__(
        self,
        obj: StoredObject,
        want: Want,
        context: FillContext,
        *,
        metadata: MetadataState,
        response: Fields,
        on_idle: Callable[[StoredObject], object],
        on_flapping: Callable[[], object] = lambda: None,
    ) -> None:
        self.obj = obj
        self.context = context
        self.want = want
        """The latest client's: its token is the one most likely to be valid."""
        self.response = response
        """Fields of the answer that began the object, or those that are stored."""
        self.metadata = metadata
        self.progress = Progress(
            obj.pieces,
            holding=metadata.holds,
            guarding=True,
            known=obj.kept_digests,
            group_pieces=metadata.group_pieces,
        )
        self.checks = PieceChecks(
            obj,
            want.target.service,
            context,
            metadata=metadata,
            progress=self.progress,
            abandon=self.abandon,
            on_idle=self.rest,
        )
        self.demand = Demand(obj.pieces, context.options, on_gone=self.rest)
        self.flights: dict[Flight, asyncio.Task[CacheserverError | None]] = {}
        """Upstream requests under way or queued."""
        self.begun = BegunPieces(self.progress, note=self._note_condemned, on_late=self.rest)
        self._spans = Spans(self)
        self._numbers = count()
        self._on_idle = on_idle
        self._on_flapping = on_flapping
        self._idle = False
        self._completions: list[Callable[[], bool]] = []
        self._verifying = metadata.pending
        """Kept until then, so that no other fill fetches what this one withdraws."""
        self._refusal: StoreError | None = None
        self._refused_until_s = 0.0
        obj.hold()

    # -- readers ------------------------------------------------------------------------------------------------

    def reader(self, want: Want, start: int, stop: int, *, whole: bool) -> Reader:
        """A reader of bytes ``[start, stop)`` for ``want``; ``whole``: it asked to the end of the object."""
        self.want = want
        until_piece = self.demand.until_piece(start, stop, whole=whole)
        reader = Reader(self, start, stop, until_piece=until_piece, number=next(self._numbers))
        self.demand.readers.add(reader)
        self._note_readers()
        return reader

    def leave(self, reader: Reader, *, served: bool) -> None:
        """A reader is done; one that was served may come back for what follows."""
        self.demand.leave(reader, expected=served and not self.obj.pieces.complete and not self.obj.volume.ailing)
        self._note_readers()
        self.rest()

    def _note_readers(self) -> None:
        """Requests that still wait for a slot go where no reader wants them, and those under way have lost theirs."""
        for flight, task in self.flights.items():
            flight.errand.set_orphan(self._is_left)
            if self.context.asker.slots.waits(task) and not self.wanted(*flight.span):
                task.cancel()

    @contextmanager
    def completing(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Around a completion: the fill is kept, and as long as it is ``wanted`` flights go on without readers."""
        self._completions.append(wanted)
        try:
            yield
        finally:
            self._completions.remove(wanted)
            self.rest()

    def doubt(self) -> None:
        """What is said of the content may have changed: the last missing piece waits until that is known."""
        self._verifying = True
        self.checks.doubt()

    def verified(self) -> None:
        """The look for metadata has ended, and all was compared with what it has found."""
        self._verifying = False
        self.rest()

    def rest(self) -> None:
        """End unless a client reads or is expected back, or a flight, a completion or a check is under way."""
        if not self.demand.readers:
            self.begun.drop_late()
        goes_on = self.begun and not self.obj.obsolete
        busy = self.demand or self.flights or goes_on or self._completions or self.checks.whole.busy
        busy = busy or self._verifying
        if not self._idle and not busy:
            self._idle = True
            self._on_idle(self.obj)
            self.context.store.settle(self.obj)
            self.obj.release()

    # -- flights ------------------------------------------------------------------------------------------------

    def plan_ahead(self) -> None:
        """Plan when a reader has moved and there is room for read-ahead."""
        if len(self.flights) < self.context.options.parallel and not self.obj.pieces.complete:
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
            self.demand.windows(),
            span_pieces=self.span_pieces,
            room=self.context.options.parallel - len(self.flights),
        )
        for span in spans:
            self.start(span.first, span.stop, Priority.DEMANDED if span.demanded else Priority.READ_AHEAD)

    def _plan_single_stream(self) -> None:
        if self.flights or not self.obj.representation.combinable:
            return
        pieces = self.obj.pieces
        first = min((window.first for window in self.demand.windows()), default=len(pieces))
        run = next(pieces.missing_runs(first, len(pieces), self.progress.claims), None)
        if run is not None:
            self.start(*run, Priority.DEMANDED)

    @property
    def flying(self) -> Mapping[Flight, asyncio.Task[CacheserverError | None]]:
        """The flights under way or queued."""
        return self.flights

    @property
    def takes_spans(self) -> bool:
        """Whether pieces may be asked for in several requests at once."""
        return not self._spans.undivided and self.obj.representation.combinable

    @property
    def span_pieces(self) -> int:
        """Pieces that one request is to ask for, as the line is."""
        return self.context.asker.slots.span_pieces(self.want.target.origin)

    def start(
        self,
        first: int,
        stop: int,
        priority: Priority,
        opened: Opened | None = None,
        errand: Errand | None = None,
    ) -> Flight:
        """Claim pieces ``[first, stop)`` and fetch them, by ``errand`` or for the client that waits for them."""
        flight = Flight(
            self.obj,
            first=first,
            stop=stop,
            progress=self.progress,
            checks=self.checks,
            wanted=self.wanted,
            extend=self._extend,
            ask=self._spans.ask,
            errand=errand or Errand(self._client_at(first), priority),
            context=self.context,
            number=next(self._numbers),
            opened=opened,
            cause=None if opened is None else self.want,
            begun=self.begun.take(first, stop, anew=opened is not None),
        )
        flight.errand.check = partial(self._spans.check, flight)
        if opened is not None:
            self._spans.began(flight, opened)
        self.progress.claim(first, stop, flight)
        if opened is not None and isinstance(opened.answer, AnswerInSlot):
            flight.errand.holds(opened.answer.slot)
            flight.errand.set_orphan(self._is_left)
        self.flights[flight] = asyncio.create_task(self._fly(flight), name=f"fill {self.obj.object_id}")
        return flight

    @property
    def _is_left(self) -> bool:
        """Whether nobody waits for what the flights bring."""
        return not (self.demand.readers or self._completions)

    def _client_at(self, piece: int) -> str:
        """The client that waits for a piece, or the latest one."""
        waiting = (reader.want for reader in self.demand.readers if reader.waits_at == piece)
        return next(waiting, self.want).client

    async def fetch(self, first: int, stop: int, errand: Errand) -> None:
        """Fetch pieces ``[first, stop)`` in the slot of ``errand``. Raises what ended it early."""
        if (refusal := self.store_refuses()) is not None:
            raise refusal
        if not self.obj.representation.combinable:
            await self.abandon(GenerationChanged("the object cannot be completed"))
            return
        flight = self.start(first, stop, errand.priority, errand=errand)
        try:
            error = await asyncio.shield(self.flights[flight])
        except asyncio.CancelledError:
            await self.cancel([flight])
            raise
        if error is not None:
            raise error

    async def _fly(self, flight: Flight) -> CacheserverError | None:
        error: CacheserverError | None = None
        try:
            error = await self._flown(flight)
            if isinstance(error, GenerationChanged) and error.retagged:
                self._on_flapping()
            if isinstance(error, GenerationChanged) or self._cannot_be_completed(error):
                await self.abandon(error or GenerationChanged("the object cannot be completed"))
                return error
            if error is None:
                self.plan()
            self.progress.wake_unclaimed()
            if error is None:
                await self.checks.check_whole()
                if self._spans.leaves:
                    await part_with(self.context.store, self.obj)
        except StoreError:
            _log.warning("what is stored could not be read again")
        finally:
            self.rest()
        return error

    async def _flown(self, flight: Flight) -> CacheserverError | None:
        """Have a flight run to its end; what ended it early."""
        error: CacheserverError | None = None
        try:
            await flight.run()
        except CacheserverError as exc:
            error = exc
            if isinstance(exc, StoreError):
                self._refusal, self._refused_until_s = exc, asyncio.get_running_loop().time() + _REFUSED_S
        except Exception as exc:
            _log.exception("fill failed unexpectedly")
            error = CacheserverError(type(exc).__name__)
        finally:
            self._end(flight, error)
        return error

    def _end(self, flight: Flight, error: CacheserverError | None) -> None:
        del self.flights[flight]
        begun, left = flight.begun, error is None or (isinstance(error, UpstreamError) and error.retryable)
        if begun is not None and left and self._keeps_begun:
            self._note_condemned(self.progress.release(flight, error, begun=begun.piece))
            self.begun.keep(begun, linger_s=self.context.options.linger_s)
        else:
            self._note_condemned(self.progress.release(flight, error))

    @property
    def _keeps_begun(self) -> bool:
        """Whether a client is expected back for what is begun, or a reader may have been given some of it."""
        return bool(self.context.options.linger_s > 0 or self.demand.readers) and not self.obj.obsolete

    def _note_condemned(self, reasons: Iterable[Reason]) -> None:
        for reason in () if self.obj.obsolete else reasons:
            self.context.meter.content_refused(reason.value)

    def store_refuses(self) -> StoreError | None:
        """Why nothing can be stored right now; readers go past the store then, and nothing is fetched ahead."""
        if self._refusal is not None and asyncio.get_running_loop().time() >= self._refused_until_s:
            self._refusal = None
        return self._refusal

    def _cannot_be_completed(self, error: CacheserverError | None) -> bool:
        """Whether nothing can be added to what is stored, or its very length is in doubt."""
        if self.obj.pieces.complete:
            return False
        doubtful = isinstance(error, UpstreamError) and not self._spans.length_confirmed
        return doubtful or not self.obj.representation.combinable

    async def abandon(self, error: CacheserverError) -> None:
        """Tell all waiters that the object is no more, and forget it."""
        self.progress.fail_all(error)
        if not self.obj.obsolete:
            await self.context.store.retire(self.obj, reason="superseded")

    def _extend(self, flight: Flight, stop: int) -> tuple[int, int]:
        """Claim the next missing pieces from ``stop`` on, for an answer that goes on; ``(stop, stop)`` for none."""
        run = next(self.obj.pieces.missing_runs(stop, len(self.obj.pieces), self.progress.claims), None)
        if run is None or not self.wanted(*run):
            return stop, stop
        self.begun.take(*run, anew=True)
        self.progress.claim(*run, flight)
        return run

    def wanted(self, first: int, stop: int) -> bool:
        """Whether a client waits for, or is expected to ask for, pieces in ``[first, stop)``; a group is ended."""
        kept = self.context.options.keep_until == "object" or any(wanted() for wanted in self._completions)
        kept = kept or first != self.progress.group(first)[0]
        return kept or self.demand.covers(first, stop)

    async def cancel(self, flights: Iterable[Flight]) -> None:
        """End some of the flights at once."""
        tasks = {flight: self.flights[flight] for flight in flights if flight in self.flights}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for flight in tasks.keys() & self.flights:
            flight.close()  # it was cancelled before its first step
            self._end(flight, None)
        await self.checks.whole.close()
        self.begun.drop_all()
        self.rest()

    # -- what a reader needs ------------------------------------------------------------------------------------

    async def wait(self, piece: int, since_s: float, client: str, patience_s: float) -> None:
        """Plan, then wait until something happens to ``piece``; ``since_s`` is when its reader began to wait.

        UpstreamTimeout when the reader has waited too long, or for ``patience_s`` more: it would ban the node soon. A
        held piece is shown after ``hold_timeout_s``, but for the last one of an object that is judged as a whole.
        """
        if piece not in self.progress.claims:
            self.plan()
        claimant = self.progress.claims.get(piece)
        if isinstance(claimant, Flight):
            self.context.asker.slots.join(self.flights.get(claimant), client)
        refusal = self.store_refuses()
        if refusal is not None and piece not in self.progress.claims:
            raise refusal
        self.obj.refuse_gone()
        if not (self.flights or piece in self.progress.claims):
            error = GenerationChanged("the object cannot be completed")
            await self.abandon(error)
            raise error
        if self.obj.pieces.state(piece) != ABSENT:
            return
        held = self.progress.holds(piece) and not self.progress.guards(piece)
        options, now_s = self.context.options, awake_s()
        end_s = min(since_s + options.first_byte_s, now_s + patience_s)
        try:
            until_s = min(end_s, since_s + options.hold_timeout_s) if held else end_s
            async with awake_timeout(until_s - now_s):
                await self.progress.wait(piece)
        except TimeoutError as exc:
            if until_s == end_s:
                raise UpstreamTimeout("no byte came in time", source=self.want.target.origin) from exc
            self.progress.expose(piece)
