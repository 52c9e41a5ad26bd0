"""An object as a worker has it: a descriptor of its file and the word of the owner that every piece is right.

Owns: the use count that keeps the descriptor open. Must not touch the disk but to close it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cacheserver.core.piece_map import ABSENT, PRESENT, PieceMap


class BorrowedFile:
    """The file of a lent object."""

    __slots__ = ("fd", "pieces", "representation")

    def __init__(self, fd: int, pieces: PieceMap) -> None:
        self.fd = fd
        self.pieces = pieces
        self.representation = object()


class BorrowedObject:
    """Implements ``web.hot_table.SentObject``; ``given`` is called once: it is withdrawn, and nobody sends it.

    ``fd`` is negative where no descriptor was free for it; nothing is answered from it then.
    """

    __slots__ = ("_given", "_holders", "file", "number", "obsolete")

    def __init__(
        self,
        number: int,
        fd: int,
        *,
        length_bytes: int,
        piece_size_bytes: int,
        given: Callable[[BorrowedObject], None],
    ) -> None:
        count = -(-length_bytes // piece_size_bytes)
        self.number = number
        self.obsolete = False
        self.file = BorrowedFile(fd, PieceMap(length_bytes, piece_size_bytes, bytes((PRESENT,)) * count))
        self._given = given
        self._holders = 0

    @property
    def pieces(self) -> PieceMap:
        """Every piece PRESENT, until it is withdrawn as lost."""
        return self.file.pieces

    @property
    def held(self) -> bool:
        """Whether an answer is on its way."""
        return self._holders > 0

    def hold(self) -> None:
        """Keep the descriptor open."""
        self._holders += 1

    def release(self) -> None:
        """End one ``hold``."""
        self._holders -= 1
        assert self._holders >= 0, "released more often than held"
        if self.obsolete and not self._holders:
            self._close()

    def withdraw(self, *, cut: bool) -> None:
        """The owner wants it back: begin no answer any more; ``cut``: end those under way at their next turn."""
        self.obsolete = True
        if cut:
            for piece in range(len(self.pieces)):
                self.pieces.mark(piece, ABSENT)
        if not self._holders:
            self._close()

    def _close(self) -> None:
        if self.file.fd >= 0:
            os.close(self.file.fd)
            self.file.fd = -1
        self._given(self)
