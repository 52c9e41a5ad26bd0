"""A gate for pieces of a manifest that are larger than ours: what is written of one waits until it is complete.

Owns: which of our pieces are written and wait for the rest of their group, the pieces that one piece of the manifest
has. Such a piece is ABSENT in the map and claimed by the gate. Nothing of it is recorded on disk, so no stop and no
kill leaves a byte that was not compared. Must not fetch or compare anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.object.claims import Progress
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject


@dataclass(frozen=True, slots=True)
class _Written:
    """A piece that is written: its SHA-256, and the sources that gave it."""

    digest: bytes
    sources: frozenset[str]


class LargerPieces:
    """The groups of one object; with a manifest of pieces that are not larger than ours, nothing ever waits."""

    def __init__(self, obj: StoredObject, store: Store, progress: Progress) -> None:
        self._obj = obj
        self._store = store
        self._progress = progress
        self._written: dict[int, _Written] = {}

    def is_part(self, piece: int) -> bool:
        """Whether a piece that is written has to wait for others of its group."""
        return any(self._is_missing(other) for other in self._progress.group(piece) if other != piece)

    def _is_missing(self, piece: int) -> bool:
        return piece not in self._written and self._obj.pieces.state(piece) == ABSENT

    def hold(self, piece: int, digest: bytes, sources: set[str]) -> None:
        """A piece is written and waits; its flight goes on to the next."""
        self._written[piece] = _Written(digest, frozenset(sources))
        self._progress.claims[piece] = self
        self._progress.advance(piece, self._obj.pieces.bounds(piece)[1])

    def sources(self, piece: int, sources: set[str]) -> set[str]:
        """Sources of the whole group of a piece that ``sources`` gave; an empty name for those that nobody knows."""
        found = set(sources)
        for other in self._progress.group(piece):
            if other in self._written:
                found |= self._written[other].sources
            elif other != piece:
                found.add("")
        return found

    async def commit(self, piece: int) -> list[int]:
        """The group of ``piece`` is right: store the others, which are given. StoreError."""
        waiting = [other for other in self._progress.group(piece) if other in self._written]
        try:
            for other in waiting:
                with await self._store.reserve(self._obj, other) as reservation:
                    await self._store.commit(self._obj, other, self._written[other].digest, reservation)
                del self._written[other]
                self._progress.done(other)
        except BaseException:
            self.begin_anew(piece, None)
            raise
        return waiting

    def begin_anew(self, piece: int, flight: object | None) -> int:
        """The group of ``piece`` is fetched again; the first piece of it that ``flight``, which has ``piece``, fetches.

        It gets those before ``piece`` that were waiting too; the others are free.
        """
        first = piece
        for other in reversed(self._progress.group(piece)):
            if self._written.pop(other, None) is None:
                continue
            del self._progress.claims[other]
            if flight is not None and other == first - 1:
                first = other
                self._progress.claims[other] = flight
            self._progress.reject(other)
        return first
