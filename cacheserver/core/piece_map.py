"""Which pieces of one object are there: index arithmetic and one state byte per piece.

Owns: piece index ↔ byte offset, and the states ABSENT → STORED → PRESENT. Must not know who fetches a piece or where
it lies on disk. A piece is marked only after its data was written (I3); that order is the caller's duty.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

ABSENT = 0
"""No bytes of this piece may be used."""
STORED = 1
"""On disk with a digest, not yet checked since the node started."""
PRESENT = 2
"""On disk and checked: may be delivered."""


class PieceMap:
    """States of the pieces of an object of ``length_bytes``; the last piece may be short."""

    __slots__ = ("_states", "length_bytes", "piece_size_bytes")

    def __init__(self, length_bytes: int, piece_size_bytes: int, states: bytes | None = None) -> None:
        count = -(-length_bytes // piece_size_bytes)
        if states is not None and len(states) != count:
            raise ValueError(f"{len(states)} states for {count} pieces")
        self.length_bytes = length_bytes
        self.piece_size_bytes = piece_size_bytes
        self._states = bytearray(count) if states is None else bytearray(states)

    def __len__(self) -> int:
        return len(self._states)

    def piece_at(self, offset: int) -> int:
        """Index of the piece that holds byte ``offset``."""
        return offset // self.piece_size_bytes

    def covering(self, start: int, stop: int) -> tuple[int, int]:
        """Half-open piece span that covers bytes ``[start, stop)``."""
        return start // self.piece_size_bytes, min(-(-stop // self.piece_size_bytes), len(self._states))

    def bounds(self, piece: int) -> tuple[int, int]:
        """Half-open byte span of one piece."""
        start = piece * self.piece_size_bytes
        return start, min(start + self.piece_size_bytes, self.length_bytes)

    def size_bytes(self, piece: int) -> int:
        """Length of one piece."""
        start, stop = self.bounds(piece)
        return stop - start

    def state(self, piece: int) -> int:
        """ABSENT, STORED or PRESENT."""
        return self._states[piece]

    def mark(self, piece: int, state: int) -> None:
        """Set one piece's state."""
        self._states[piece] = state

    def present_until(self, offset: int, stop: int) -> int:
        """Byte up to which everything from ``offset`` on is PRESENT, at most ``stop``; ``offset`` when nothing is."""
        return self._run_until(offset, stop, PRESENT)

    def present(self, start: int, stop: int) -> bool:
        """Whether all of bytes ``[start, stop)``, not empty, are PRESENT; the quick question of a warm hit."""
        states, size = self._states, self.piece_size_bytes
        first, last = start // size, (stop - 1) // size
        if first == last:
            return states[first] == PRESENT
        return states.count(PRESENT, first, last + 1) == last + 1 - first

    def stored_until(self, offset: int, stop: int) -> int:
        """The same for pieces that are on disk, checked or not."""
        return self._run_until(offset, stop, STORED)

    def _run_until(self, offset: int, stop: int, least: int) -> int:
        states, size = self._states, self.piece_size_bytes
        piece = offset // size
        while offset < stop and states[piece] >= least:
            piece += 1
            offset = piece * size
        return min(offset, stop)

    def missing_runs(self, first: int, stop: int, claimed: Container[int]) -> Iterator[tuple[int, int]]:
        """Half-open runs of pieces in ``[first, stop)`` that are ABSENT and not in ``claimed``, in order."""
        begin: int | None = None
        for piece in range(first, min(stop, len(self._states))):
            if self._states[piece] == ABSENT and piece not in claimed:
                if begin is None:
                    begin = piece
            elif begin is not None:
                yield begin, piece
                begin = None
        if begin is not None:
            yield begin, min(stop, len(self._states))

    def pieces_in_state(self, first: int, stop: int, state: int) -> list[int]:
        """Indices in ``[first, stop)`` that are in this state."""
        return [piece for piece in range(first, min(stop, len(self._states))) if self._states[piece] == state]

    def stored_count(self, first: int, stop: int) -> int:
        """How many pieces in ``[first, stop)`` are on disk."""
        stop = min(stop, len(self._states))
        return max(0, stop - first) - self._states.count(ABSENT, first, stop)

    def only_missing(self, piece: int) -> bool:
        """Whether this piece is ABSENT and no other is."""
        found = self._states.find(ABSENT)
        return found == piece and self._states.find(ABSENT, piece + 1) < 0

    @property
    def complete(self) -> bool:
        """Whether every piece is on disk."""
        return ABSENT not in self._states

    @property
    def stored_bytes(self) -> int:
        """Bytes of all pieces on disk."""
        count = len(self._states) - self._states.count(ABSENT)
        if count and self._states[-1] != ABSENT:
            return (count - 1) * self.piece_size_bytes + self.size_bytes(len(self._states) - 1)
        return count * self.piece_size_bytes
