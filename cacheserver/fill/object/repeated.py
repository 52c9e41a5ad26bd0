"""Bytes that come a second time, in an answer with another entity tag: held against what is here of the object.

Owns: that comparison. Where every byte that is stored or was shown comes again, the answer may go on: what a client
gets then is byte for byte the body of this one answer (I5). Must not write.
"""

from __future__ import annotations

import hashlib

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.piece_map import ABSENT
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject


class Repeated:
    """Compares bytes from 0 to ``until``; ``begun`` is of those of its piece that come before it."""

    def __init__(self, obj: StoredObject, store: Store, until: int, begun: hashlib._Hash) -> None:
        self._obj = obj
        self._store = store
        self._until = until
        self._begun = begun.digest()
        self._piece = 0
        self._digest = hashlib.sha256()

    async def is_over(self, data: bytes, position: int) -> bool:
        """Compare bytes from ``position`` on; whether nothing is left to compare. GenerationChanged, StoreError."""
        stop = min(position + len(data), self._until)
        at = position
        while at < stop:
            end = min(self._obj.pieces.bounds(self._piece)[1], stop)
            self._digest.update(data[at - position : end - position])
            at = end
            if at == self._obj.pieces.bounds(self._piece)[1]:
                await self._judge(self._piece)
                self._piece, self._digest = self._piece + 1, hashlib.sha256()
        if at < self._until:
            return False
        if self._digest.digest() != self._begun:
            raise _other()
        return True

    async def _judge(self, piece: int) -> None:
        if self._obj.pieces.state(piece) == ABSENT:
            return
        known = await self._store.run(self._obj.volume, self._obj.file.digest_of, piece)
        if known != self._digest.digest():
            raise _other()


def _other() -> GenerationChanged:
    return GenerationChanged("other bytes under another entity tag", retagged=True)
