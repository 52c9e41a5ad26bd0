"""How far the pieces of one object have come, and who waits for them.

Owns: claims (I2: a piece has at most one), how far a claimed piece may be read while it streams in, and the waiters,
woken by events, never by polling. Must not fetch or store anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container

from cacheserver.core.errors import CacheserverError
from cacheserver.core.integrity.release import Facts, Reason, Said, Verdict, decide
from cacheserver.core.piece_map import ABSENT, PieceMap


class Progress:
    """Claims, watermarks and waiters of one object.

    ``holding``: bytes of an unfinished piece are held back until its hash has matched; so are those of ``known``, the
    pieces whose digests are known without a manifest. ``guarding``: the last piece that is missing is held back,
    whatever ``holding`` says, until the whole is right. ``group_pieces``: how many of our pieces one of the manifest
    has; they are held back, and shown early, together.
    """

    def __init__(
        self,
        pieces: PieceMap,
        *,
        holding: bool = False,
        guarding: bool = False,
        known: Container[int] = (),
        group_pieces: int = 1,
    ) -> None:
        self._pieces = pieces
        self.group_pieces = group_pieces
        self._known = known
        self.claims: dict[int, object] = {}
        """Piece → the flight that fetches it."""
        self.guarding = guarding
        self._holding = holding
        self._arrived: dict[int, int] = {}
        self._exposed: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._failed: dict[int, tuple[int, CacheserverError]] = {}
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}

    def claim(self, first: int, stop: int, owner: object) -> None:
        """Give the pieces ``[first, stop)`` to one flight."""
        for piece in range(first, stop):
            assert piece not in self.claims, f"piece {piece} is claimed twice (I2)"
            self.claims[piece] = owner

    def readable_until(self, offset: int, stop: int) -> int:
        """Byte up to which a reader at ``offset`` may be served now; ``offset`` when it has to wait."""
        reached = self._pieces.present_until(offset, stop)
        if reached < stop:
            piece = self._pieces.piece_at(reached)
            if not self.holds(piece):
                reached = max(reached, self._arrived.get(piece, 0))
        return min(reached, stop)

    def group(self, piece: int) -> range:
        """Our pieces that one piece of the manifest has, this one among them."""
        first = piece - piece % self.group_pieces
        return range(first, min(first + self.group_pieces, len(self._pieces)))

    def epoch(self, piece: int) -> int:
        """How often bytes of this piece were shown to readers and then found bad; they must not be mixed."""
        return self._epochs.get(piece, 0)

    def holds(self, piece: int) -> bool:
        """Whether bytes of this piece are held back."""
        return self.guards(piece) or (self._is_judged(piece) and piece not in self._exposed)

    def _is_judged(self, piece: int) -> bool:
        return self._holding or piece in self._known

    def is_unsure(self, offset: int) -> bool:
        """Whether the byte at ``offset`` is of an unfinished piece that is still to be compared with something."""
        return (self._holding or self.guarding) and self._pieces.state(self._pieces.piece_at(offset)) == ABSENT

    def guards(self, piece: int) -> bool:
        """Whether this piece is held back, without a limit in time, because the whole is judged with it."""
        return self.guarding and self._pieces.only_missing(piece)

    def is_shown(self, piece: int) -> bool:
        """Whether bytes of an unfinished piece could be read."""
        return piece in self._arrived and not self.holds(piece)

    def expose(self, piece: int) -> None:
        """Show what has arrived of a held group: its reader has waited too long (``hold_timeout``)."""
        for each in self.group(piece):
            self._exposed.add(each)
            if each in self._arrived:
                self._wake(each, None)

    def hold(self, group_pieces: int = 1) -> None:
        """There is a manifest; see ``group_pieces``."""
        self._holding, self.group_pieces = True, group_pieces

    def stop_holding(self) -> None:
        """There is no manifest: bytes go out as they come."""
        self._holding = False
        self._look_again()

    def stop_guarding(self) -> None:
        """No digest of the whole is known, or every piece is checked already."""
        self.guarding = False
        self._look_again()

    def _look_again(self) -> None:
        for piece in list(self._arrived):
            self._wake(piece, None)

    def reject(self, piece: int, *, seen: bool = False) -> None:
        """A complete piece was bad: forget its bytes; a reader that has ``seen`` some is cut at its next look."""
        if seen or not self._is_judged(piece) or piece in self._exposed:
            self._epochs[piece] = self.epoch(piece) + 1
        self._arrived.pop(piece, None)
        self._exposed.discard(piece)
        self._wake(piece, None)

    def advance(self, piece: int, offset: int) -> None:
        """Bytes of a claimed piece up to ``offset`` may be read; wakes its waiters."""
        self._arrived[piece] = offset
        if not self.holds(piece):
            self._wake(piece, None)

    def done(self, piece: int) -> None:
        """A claimed piece is PRESENT now; wakes its waiters."""
        self._failed.pop(piece, None)
        self._end(piece, None)

    def release(self, owner: object, error: CacheserverError | None, *, begun: int | None = None) -> list[Reason]:
        """The owner fetches no more: its remaining pieces are free, their waiters hear ``error`` or plan again.

        What is there of ``begun`` stays, for another owner to go on with. Why pieces of which some was shown are
        condemned.
        """
        reasons = list[Reason]()
        for piece in [piece for piece, claimant in self.claims.items() if claimant is owner]:
            if error is not None:
                self._failed[piece] = (self.failures(piece) + 1, error)
            if piece == begun:
                del self.claims[piece]
                self._wake_group(piece, error)
            else:
                reasons += self.drop(piece, error)
        return reasons

    def drop(self, piece: int, error: CacheserverError | None = None) -> list[Reason]:
        """Forget what is there of a piece that is not complete; why it is condemned, where some of it was shown."""
        reasons = []
        if piece in self.claims or piece in self._arrived:
            # Another answer begins the piece anew: those who were shown some of it must not get the rest of that one.
            said = Said.UNCOMPARED if self._holding or self.guarding else Said.NOTHING
            facts = Facts(piece=said, shown=self.is_shown(piece), broken=True, overdue=True)
            rule = decide(facts)
            if rule.verdict is Verdict.CONDEMN:
                reasons.append(rule.reason)
                self._epochs[piece] = self.epoch(piece) + 1
            self._end(piece, error)
            self._wake_group(piece, error)
        return reasons

    def wake_unclaimed(self) -> None:
        """A flight has ended: whoever waits for a piece that nobody fetches plans for it, or hears why not."""
        for piece in [piece for piece in self._waiters if piece not in self.claims]:
            self._wake(piece, None)

    def failures(self, piece: int) -> int:
        """How many flights have failed at this piece."""
        return self._failed[piece][0] if piece in self._failed else 0

    def raise_failure(self, piece: int, *, since: int) -> None:
        """Raise the last error of a piece at which flights have failed more than ``since`` times.

        A reader that was busy when its flight failed gets the error here, instead of starting flights for ever.
        """
        if self.failures(piece) > since:
            raise self._failed[piece][1]

    def fail_all(self, error: CacheserverError) -> None:
        """Tell every waiter that the object is no more."""
        for piece in list(self._waiters):
            self._wake(piece, error)

    async def wait(self, piece: int) -> None:
        """Until something happened to this piece: more bytes, done, free again (returns) or failed (raises)."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(piece, [])
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)

    @property
    def arrived_bytes(self) -> int:
        """Bytes of claimed pieces that are here already, held ones too."""
        return sum(offset - self._pieces.bounds(piece)[0] for piece, offset in self._arrived.items())

    def _end(self, piece: int, error: CacheserverError | None) -> None:
        self.claims.pop(piece, None)
        self._arrived.pop(piece, None)
        self._exposed.discard(piece)
        self._wake(piece, error)

    def _wake_group(self, piece: int, error: CacheserverError | None) -> None:
        """Wake those who wait for any piece of a group: they are waited for together."""
        for other in self.group(piece):
            self._wake(other, error)

    def _wake(self, piece: int, error: CacheserverError | None) -> None:
        for waiter in self._waiters.pop(piece, ()):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
                waiter.exception()  # retrieved here, as the reader may be cancelled at this moment
