"""One upstream request for contiguous pieces of one object, from claim to last piece.

Owns: resuming from the last good byte, hashing and writing each piece, when to stop. A flight belongs to the fill, not
to the client that caused it (I7). Must not choose what to fetch (``core.fetch_plan``) or judge a head
(``core.cache.answer``).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cacheserver.core.errors import BadAnswer, BadPiece, TruncatedBody, UpstreamError, UpstreamTimeout
from cacheserver.core.integrity.blame import Evidence
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.asking import Opened
from cacheserver.fill.context import FillContext
from cacheserver.fill.object.checks import PieceChecks
from cacheserver.fill.object.claims import Progress
from cacheserver.fill.slots import Errand
from cacheserver.store.ledger import Reservation
from cacheserver.store.stored_object import StoredObject

Ask = Callable[[int, int, frozenset[str], Errand], Awaitable[Opened]]
"""Ask the sources of the object for bytes ``[start, stop)``, some only if there is no other."""


_GAIN_BYTES = 1 << 16
"""What a try must have brought so that the next one is a first one again."""
_LEFT_S = 60.0
"""How long the piece in hand is fetched for nobody."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A piece that is there up to byte ``offset``: another flight goes on with it. ``digest`` is ``hashlib``'s."""

    piece: int
    offset: int
    digest: hashlib._Hash
    contributors: set[str]


class Flight:
    """Fetches pieces ``[first, stop)``; ``wanted`` says whether any reader wants pieces of a span."""

    def __init__(
        self,
        obj: StoredObject,
        *,
        first: int,
        stop: int,
        progress: Progress,
        checks: PieceChecks,
        wanted: Callable[[int, int], bool],
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
        self._ask = ask
        self.errand = errand
        errand.check = obj.refuse_gone
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
        if begun is not None:
            self._offset, self._digest, self._contributors = begun.offset, begun.digest, begun.contributors
            self._torn = True

    @property
    def begun(self) -> Begun | None:
        """The piece in hand, where some of it is there."""
        if not self._torn or self._offset == self._obj.pieces.bounds(self._piece)[0]:
            return None
        return Begun(self._piece, self._offset, self._digest, self._contributors)

    @property
    def span(self) -> tuple[int, int]:
        """The pieces ``[first, stop)`` that are still to come."""
        return self._piece, self._stop

    async def run(self) -> None:
        """Fetch until done, given up or unwanted; raises what ended it early."""
        try:
            await self._try_until_done()
        finally:
            self.close()

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
                await self._fetch()
                return
            except UpstreamError as exc:
                gained = self._committed > committed or self._offset - reached >= _GAIN_BYTES
                tries = 1 if gained else tries + 1
                if not exc.retryable or tries >= self._context.options.tries or not self._obj.representation.combinable:
                    raise
                await asyncio.sleep(self._context.options.backoff_s * 2 ** (tries - 1))

    async def _fetch(self) -> None:
        opened, self.opened = self.opened, None
        if opened is None:
            await self._reserve()
            opened = await self._ask(self._offset, self._obj.pieces.bounds(self._stop - 1)[1], self._avoid, self.errand)
        self._source = opened.answer.asked
        try:
            await self._take(opened)
        finally:
            opened.answer.close()

    async def _take(self, opened: Opened) -> None:
        answer, position = opened.answer, opened.accepted.start
        while self._piece < self._stop:
            data = await answer.read()
            if not data:
                raise TruncatedBody("source ended the body early", source=answer.source)
            self._context.meter.upstream_bytes(self._obj.representation.service, answer.source_class, len(data))
            skip = min(len(data), max(0, self._offset - position))
            position += len(data)
            if position > (opened.accepted.stop or position):
                raise BadAnswer("source sent more than it announced", source=answer.source)
            if not await self._keep(data[skip:] if skip else data):
                return
            if self.errand.left_for_s > _LEFT_S:
                raise UpstreamTimeout("source is too slow for what nobody waits for", source=answer.source)

    async def _keep(self, data: bytes) -> bool:
        """Write bytes and finish the pieces that they complete; False when no reader wants the rest."""
        while data and self._piece < self._stop:
            self._obj.refuse_gone()
            reservation = await self._reserve()
            piece_stop = self._obj.pieces.bounds(self._piece)[1]
            part, data = data[: piece_stop - self._offset], data[piece_stop - self._offset :]
            self._contributors.add(self._source)
            self._torn = True
            await self._context.store.write(self._obj, self._offset, part, self._digest)
            self._offset += len(part)
            if self._offset < piece_stop:
                self._progress.advance(self._piece, self._offset)
                continue
            await self._finish_piece(reservation)
            if self._piece < self._stop and not self._wanted(self._piece, self._stop):
                return False
        return True

    async def _reserve(self) -> Reservation:
        """Room for the piece in hand, before its bytes are asked for."""
        if self._reservation is None:
            self._reservation = await self._context.store.reserve(self._obj, self._piece)
        return self._reservation

    async def _verify_piece(self, piece: int) -> None:
        """Hold a complete piece against the manifest; a bad one is dropped, its source struck, and asked elsewhere."""
        if await self._checks.is_right(piece, self._digest.digest()):
            return
        self._offset = self._obj.pieces.bounds(piece)[0]
        self._digest = hashlib.sha256()
        self._progress.reject(piece)
        evidence = self._checks.evidence(self._contributors)
        self._context.asker.blame(self._source, evidence, self._obj.object_id)
        if evidence is not Evidence.SEVERAL_SOURCES:
            self._avoid |= {self._source}
        self._contributors.clear()
        raise BadPiece(piece, source=self._source)

    async def _finish_piece(self, reservation: Reservation) -> None:
        piece = self._piece
        async with self._checks.finishing(piece, patience_s=self._context.options.hold_timeout_s):
            await self._verify_piece(piece)
            await self._checks.check_last(piece, self._contributors)
            assert self._obj.pieces.state(piece) == ABSENT, f"piece {piece} is there already (I2)"
            await self._context.store.commit(self._obj, piece, self._digest.digest(), reservation)
            self._reservation, self._torn = None, False
            self._committed += 1
            self._piece += 1
            self._contributors.clear()
            self._digest = hashlib.sha256()
            self._progress.done(piece)
        await self._checks.committed(piece)
