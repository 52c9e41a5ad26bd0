"""One upstream request for contiguous pieces of one object, from claim to last piece.

Owns: resuming from the last good byte, asking for the rest of what an answer had less of, hashing and writing each
piece, when to stop. A flight belongs to the fill, not to the client that caused it (I7). Must not choose what to fetch
(``core.fetch_plan``) or judge a head (``core.cache.answer``).
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cacheserver.core.errors import BadAnswer, BadPiece, TruncatedBody, UpstreamError
from cacheserver.core.integrity.blame import Evidence
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.asking import Opened
from cacheserver.fill.context import FillContext
from cacheserver.fill.object.begun import Begun
from cacheserver.fill.object.checks import PieceChecks
from cacheserver.fill.object.claims import Progress
from cacheserver.fill.object.repeated import Repeated
from cacheserver.fill.slots import Errand
from cacheserver.ports import UpstreamAnswer
from cacheserver.store.ledger import Reservation
from cacheserver.store.stored_object import StoredObject

Ask: TypeAlias = "Callable[[Flight, int, int, frozenset[str]], Awaitable[Opened | None]]"
"""Ask the sources for bytes ``[start, stop)``, some only if there is no other; None: another flight brings them."""

_GAIN_BYTES = 1 << 16
"""What a try must have brought so that the next one is a first one again."""


class Flight:
    """Fetches pieces ``[first, stop)``; ``wanted`` says whether any reader wants pieces of a span.

    ``extend`` claims what follows byte ``stop`` for an answer that goes on, and gives the pieces.
    """

    def __init__(
        self,
        obj: StoredObject,
        *,
        first: int,
        stop: int,
        progress: Progress,
        checks: PieceChecks,
        wanted: Callable[[int, int], bool],
        extend: Callable[[Flight, int], tuple[int, int]],
        ask: Ask,
        errand: Errand,
        context: FillContext,
        number: int,
        opened: Opened | None = None,
        cause: object = None,
        begun: Begun | None = None,
    ) -> None:
        self.cause = cause
        """The want whose own request ``opened`` is the answer to."""
        self._stop = stop
        self._obj = obj
        self._progress = progress
        self._checks = checks
        self._wanted = wanted
        self._extend = extend
        self._ask = ask
        self.errand = errand
        self._context = context
        self.opened = opened
        """An answer that is open already, with its slot."""
        self._piece = first
        self._offset = obj.pieces.bounds(first)[0]
        self._digest = hashlib.sha256()
        self.number = number
        """Of the flights and readers of its object, in the order in which they came."""
        self._committed = 0
        self._torn = False
        """Whether something of the piece in hand was written."""
        self._source = ""
        self._contributors: set[str] = set()
        """Sources of the piece in hand; only a single one can be blamed for a bad one."""
        self._avoid: frozenset[str] = frozenset()
        self._reservation: Reservation | None = None
        self._running = False
        """Whether it has had a slot."""
        if begun is not None:
            self._offset, self._digest, self._contributors = begun.offset, begun.digest, begun.contributors
            self._torn = True

    @property
    def begun(self) -> Begun | None:
        """The piece in hand, where some of it is there."""
        if not self._torn:
            return None
        start, stop = self._obj.pieces.bounds(self._piece)
        if not start < self._offset < stop:
            return None
        return Begun(self._piece, self._offset, self._digest, self._contributors)

    @property
    def span(self) -> tuple[int, int]:
        """The pieces ``[first, stop)`` that are still to come."""
        return self._piece, self._stop

    async def run(self) -> None:
        """Fetch until done, given up or unwanted; raises what ended it early."""
        try:
            if self.opened is not None:
                self.has_slot()
            await self._try_until_done()
        finally:
            self.close()
            if self._running:
                self._context.meter.fill_ended()

    def has_slot(self) -> None:
        """One of its requests has a slot: from now on it counts as running."""
        if not self._running:
            self._running = True
            self._context.meter.fill_started()

    def close(self) -> None:
        """Give back what it holds: an answer that was not begun, room that was not used."""
        if self.opened is not None:
            self.opened.answer.close()
        if self._reservation is not None:
            if self._torn:
                self._context.store.leave_torn(self._obj, self._piece, self._reservation)
            self._reservation.release()

    async def _try_until_done(self) -> None:
        tries = 0
        while True:
            committed, reached = self._committed, self._offset
            try:
                while await self._fetch():
                    pass
                return
            except UpstreamError as exc:
                gained = self._committed > committed or self._offset - reached >= _GAIN_BYTES
                tries = 1 if gained else tries + 1
                if not exc.retryable or tries >= self._context.options.tries or not self._obj.representation.combinable:
                    raise
                await asyncio.sleep(self._context.options.backoff_s * 2 ** (tries - 1))

    async def _fetch(self) -> bool:
        """One answer from its head to its end; whether more has to be asked for."""
        opened, self.opened = self.opened, None
        if opened is None:
            await self._reserve()
            opened = await self._ask(self, self._offset, self._obj.pieces.bounds(self._stop - 1)[1], self._avoid)
        if opened is None:
            return False
        self._source = opened.answer.asked
        try:
            return await self._take(opened)
        except UpstreamError as exc:
            self._context.asker.faulted(self._source, exc)
            raise
        finally:
            opened.answer.close()

    async def _take(self, opened: Opened) -> bool:
        """Keep what an answer brings; whether it had less than what is wanted."""
        answer, position, end = opened.answer, opened.accepted.start, opened.accepted.stop
        repeated = None if opened.same is None else Repeated(self._obj, self._context.store, self._offset, self._digest)
        while self._piece < self._stop:
            if position == end:
                return True
            received = None
            if repeated is None and position == self._offset and end is not None:
                received = await self._received(answer, end)
            if received is None:
                data = await self._read(answer, position, end)
                if opened.same is not None and repeated is not None and await repeated.is_over(data, position):
                    repeated = None
                    await opened.same()
                goes_on = await self._keep(data, position, goes_on=opened.undivided)
                position += len(data)
            else:
                position += received
                goes_on = await self._kept(received, goes_on=opened.undivided)
            if not goes_on:
                return False
            if self.errand.is_given_up and not self._wanted(*self.span):
                return False  # too slow for what nobody waits for
        return False

    async def _read(self, answer: UpstreamAnswer, position: int, end: int | None) -> bytes:
        data = await answer.read()
        if not data:
            raise TruncatedBody("source ended the body early", source=answer.source)
        self._count(answer, len(data))
        if end is not None and position + len(data) > end:
            raise BadAnswer("source sent more than it announced", source=answer.source)
        return data

    async def _received(self, answer: UpstreamAnswer, end: int) -> int | None:
        """Have a thread receive bytes of the piece in hand, to its end at most; None where they have to be read."""
        self._obj.refuse_gone()
        await self._reserve()
        wanted = min(end, self._obj.pieces.bounds(self._piece)[1]) - self._offset

        async def take(sock: socket.socket, most: int) -> int:
            self._contributors.add(self._source)
            self._torn = True
            return await self._context.store.receive(self._obj, self._offset, sock, most, self._digest)

        count = await answer.receive(take, wanted)
        if count is not None:
            self._count(answer, count)
        return count

    def _count(self, answer: UpstreamAnswer, count_bytes: int) -> None:
        self._context.meter.upstream_bytes(self._obj.representation.service, answer.source_class, count_bytes)

    async def _keep(self, data: bytes, position: int, *, goes_on: bool) -> bool:
        """Write bytes from ``position`` on and finish the pieces that they complete; False when none wants the rest."""
        stop = position + len(data)
        while self._offset < stop and self._piece < self._stop:
            self._obj.refuse_gone()
            await self._reserve()
            piece_stop = self._obj.pieces.bounds(self._piece)[1]
            part = data[self._offset - position : piece_stop - position]
            self._contributors.add(self._source)
            self._torn = True
            await self._context.store.write(self._obj, self._offset, part, self._digest)
            if not await self._kept(len(part), goes_on=goes_on):
                return False
        return True

    async def _kept(self, count_bytes: int, *, goes_on: bool) -> bool:
        """Bytes of the piece in hand were written; False when none wants what follows."""
        self._offset += count_bytes
        if self._offset < self._obj.pieces.bounds(self._piece)[1]:
            self._progress.advance(self._piece, self._offset)
            return True
        await self._finish_piece(await self._reserve())
        if self._piece == self._stop and goes_on:
            self._piece, self._stop = self._extend(self, self._stop)
            self._offset = self._obj.pieces.bounds(self._piece)[0] if self._piece < self._stop else self._offset
        return self._piece == self._stop or self._wanted(self._piece, self._stop)

    async def _reserve(self) -> Reservation:
        """Room for the piece in hand, before its bytes are asked for."""
        if self._reservation is None:
            self._reservation = await self._context.store.reserve(self._obj, self._piece)
        return self._reservation

    async def _verify_piece(self, piece: int) -> None:
        """Hold a complete piece against the manifest; a bad one is dropped, its source struck, and asked elsewhere."""
        if await self._checks.is_right(piece, self._digest.digest()):
            return
        evidence = self._checks.evidence(piece, self._contributors)
        self._leave_written(piece)
        self._piece = await self._checks.begin_anew(piece, self)
        self._offset = self._obj.pieces.bounds(self._piece)[0]
        self._digest = hashlib.sha256()
        self._progress.reject(piece)
        self._context.asker.blame(self._source, evidence, self._obj.object_id)
        if evidence is not Evidence.SEVERAL_SOURCES:
            self._avoid |= {self._source}
        self._contributors.clear()
        raise BadPiece(piece, source=self._source)

    async def _finish_piece(self, reservation: Reservation) -> None:
        piece = self._piece
        async with self._checks.finishing(piece, patience_s=self._context.options.hold_timeout_s):
            if self._checks.larger.is_part(piece):
                self._hold_piece(piece)
                return
            await self._verify_piece(piece)
            await self._checks.commit_group(piece)
            await self._checks.check_last(piece, self._contributors)
            assert self._obj.pieces.state(piece) == ABSENT, f"piece {piece} is there already (I2)"
            await self._context.store.commit(self._obj, piece, self._digest.digest(), reservation)
            self._committed += 1
            self._go_on()
            self._progress.done(piece)
        await self._checks.committed(piece)

    def _leave_written(self, piece: int) -> None:
        """The blocks of the piece in hand are there and charged, whatever becomes of it."""
        if self._reservation is not None:
            self._context.store.leave_torn(self._obj, piece, self._reservation)
            self._reservation.release()
        self._reservation, self._torn = None, False

    def _hold_piece(self, piece: int) -> None:
        """Leave a written piece with the gate of larger pieces until the rest of its group has come."""
        self._leave_written(piece)
        self._checks.larger.hold(piece, self._digest.digest(), self._contributors)
        self._go_on()

    def _go_on(self) -> None:
        """The piece in hand is written: begin the next."""
        self._reservation, self._torn = None, False
        self._piece += 1
        self._contributors.clear()
        self._digest = hashlib.sha256()
