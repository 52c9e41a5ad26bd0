"""One delivery's view of an object that is still being filled.

Owns: how far its bytes may go, how long it waits, and that it is never given bytes of two copies of one piece (I1).
Must not fetch or send.
"""

from __future__ import annotations

from typing import Protocol

from cacheserver.concurrency.awake import awake_s
from cacheserver.core.errors import BadPiece, UpstreamError
from cacheserver.core.fetch_plan import Window
from cacheserver.core.piece_map import ABSENT, STORED
from cacheserver.core.turns.feed import Feed
from cacheserver.fill.asking import Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.claims import Progress
from cacheserver.fill.object.flight import Flight
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.store.stored_object import StoredObject


class _Fill(Protocol):
    """What a reader needs of its object's fill; see ``ObjectFill``."""

    obj: StoredObject
    want: Want
    progress: Progress
    metadata: MetadataState

    context: FillContext

    async def wait(self, piece: int, since_s: float, client: str, patience_s: float) -> None: ...
    def plan_ahead(self) -> None: ...
    def leave(self, reader: Reader, *, served: bool) -> None: ...


class Reader:
    """One delivery of bytes ``[start, stop)``: tells how far it may go, and keeps its pieces wanted until closed."""

    def __init__(self, fill: _Fill, start: int, stop: int, *, until_piece: int, number: int) -> None:
        """``number`` counts the flights and readers of the object in the order in which they came."""
        self._fill = fill
        self._offset = start
        self._stop = stop
        self._until_piece = until_piece
        self._waiting = False
        self._feed = Feed(start)
        self.want = fill.want
        self._number = number
        self._collapsed = fill.want.collapsed
        self._planned_piece = -1
        self._tasted: dict[int, int] = {}
        """Piece → its epoch when bytes of it were served that were not checked yet: too early, or before a manifest."""

    def window(self) -> Window:
        """The pieces that it wants now, read-ahead included: whole groups, from the first that nobody fetches on."""
        pieces, progress = self._fill.obj.pieces, self._fill.progress
        ahead = max(1, self._fill.context.options.read_ahead_pieces)
        if self._offset >= self._stop:
            first = -(-self._offset // pieces.piece_size_bytes)
            return Window(first, min(self._until_piece, first + ahead), self._waiting)
        piece = pieces.piece_at(self._offset)
        stop = progress.group(min(self._until_piece, piece + ahead) - 1).stop
        group = progress.group(piece) if pieces.state(piece) == ABSENT else ()
        first = next((each for each in group if pieces.state(each) == ABSENT and each not in progress.claims), piece)
        return Window(first, stop, self._waiting)

    @property
    def waits_at(self) -> int | None:
        """The piece that it is stopped at."""
        return self._fill.obj.pieces.piece_at(self._offset) if self._waiting else None

    async def readable(self, offset: int) -> int:
        """Byte up to which ``[offset, …)`` may be sent now; waits where nothing may. Raises what made it impossible."""
        fill = self._fill
        self._offset = offset
        since_s = awake_s()
        failures = fill.progress.failures(fill.obj.pieces.piece_at(offset))
        while True:
            self._refuse_mixture()
            reached = fill.progress.readable_until(offset, self._stop)
            if reached == self._stop and fill.progress.is_unsure(reached - 1):
                reached -= 1  # an answer is not complete before its bytes are (I1)
            if reached > offset:
                self._taste(offset, reached)
                self._plan_ahead(reached)
                return reached
            piece = fill.obj.pieces.piece_at(offset)
            if fill.obj.pieces.state(piece) == STORED:
                await fill.context.store.check(fill.obj, (piece,))  # before its first delivery (I1)
                continue
            fill.progress.raise_failure(piece, since=failures)
            older = self._is_older(fill.progress.claims.get(piece))
            self._note_collapse(older)
            self._waiting = True
            began_s = awake_s()
            try:
                await fill.wait(piece, since_s, self.want.client, self._feed.patience_s)
            except UpstreamError as exc:
                if not exc.retryable or not older:
                    raise
                failures = fill.progress.failures(piece)
            finally:
                self._waiting = False
                self._feed.waited(awake_s() - began_s, offset)

    def still(self, start: int, stop: int) -> bool:
        """Whether bytes that were readable may be sent now. BadPiece where some that were sent have proved bad."""
        self._refuse_mixture()
        return self._fill.progress.readable_until(start, stop) >= stop

    async def metadata(self) -> Metadata:
        """What the object's content must be, once all has come that will."""
        return await self._fill.metadata.settled()

    def has_tasted(self, offset: int) -> bool:
        """Whether unchecked bytes of the piece at ``offset``, or of its group, were given out."""
        return any(piece in self._tasted for piece in self._fill.progress.group(self._fill.obj.pieces.piece_at(offset)))

    def _plan_ahead(self, reached: int) -> None:
        """Plan once per piece: planning looks at every reader of the object."""
        piece = self._fill.obj.pieces.piece_at(reached - 1)
        if piece != self._planned_piece:
            self._planned_piece = piece
            self._fill.plan_ahead()

    def _is_older(self, claimant: object) -> bool:
        """Whether a piece is being fetched by a flight that began before this reader, and not for its own client.

        Its failure is forgiven, as the source may have healed since; that of the reader's own flights is not.
        """
        return isinstance(claimant, Flight) and claimant.number < self._number and claimant.cause is not self.want

    def _note_collapse(self, older: bool) -> None:
        if older and not self._collapsed:
            self._collapsed = True
            self._fill.context.meter.collapsed()

    def _taste(self, offset: int, reached: int) -> None:
        first, stop = self._fill.obj.pieces.covering(offset, reached)
        for piece in range(first, stop):
            if self._fill.metadata.pending or self._fill.obj.pieces.state(piece) == ABSENT:
                self._tasted[piece] = self._fill.progress.epoch(piece)

    def _refuse_mixture(self) -> None:
        """A reader that was given bytes of a piece which proved bad must not get the rest of a good one (I1)."""
        for piece, epoch in self._tasted.items():
            if self._fill.progress.epoch(piece) != epoch:
                raise BadPiece(piece)

    def close(self, *, reached: int) -> None:
        """The delivery ended at byte ``reached``."""
        self._offset = reached
        self._fill.leave(self, served=reached >= self._stop)
