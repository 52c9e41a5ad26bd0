"""Digests over the whole of one object, computed while it is filled instead of at its end.

Owns: how far the running digests have come, and that they are never of bytes that were replaced since. Hashing happens
in the store's threads, one trip at a time; only pieces that this fill has stored are hashed ahead of need, so that a
piece is read once however often a fill of the object begins anew. Must not judge what it finds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

from cacheserver.core.errors import StoreError
from cacheserver.core.piece_map import STORED
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject

_BATCH_PIECES = 4


class WholeDigest:
    """Running digests over one object; idle until ``begin`` says which. ``on_idle`` is called when a run ahead ends."""

    def __init__(self, obj: StoredObject, store: Store, *, on_idle: Callable[[], None]) -> None:
        self._obj = obj
        self._store = store
        self._on_idle = on_idle
        self._names: tuple[str, ...] = ()
        self._digests: tuple[hashlib._Hash, ...] = ()
        self._next = 0
        """The pieces before it are in the digests."""
        self._until = 0
        """The same, and what a thread is hashing now."""
        self._stored: set[int] = set()
        """Pieces that this fill has stored and that are not in the digests yet."""
        self._ahead = True
        """Whether to hash before the object is complete; not any more once a piece was replaced."""
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a run ahead is under way."""
        return self._task is not None

    def begin(self, names: Sequence[str]) -> None:
        """From now on the digests of these hashlib names are wanted."""
        self._names = tuple(names)
        self._restart()
        self._run_ahead()

    def note(self, piece: int) -> None:
        """A piece was stored; the digests follow it, or begin anew where they have passed it."""
        if piece < self._until:
            self._restart()
            self._ahead = False
        self._stored.add(piece)
        self._run_ahead()

    async def finish(self, piece: int) -> dict[str, bytes] | None:
        """Digests over everything, of which ``piece`` is written but not stored yet. StoreError.

        None where another piece proved bad at rest meanwhile, so that ``piece`` is not the last one.
        """
        pieces = self._obj.pieces
        async with self._one_at_a_time:
            try:
                for other in pieces.pieces_in_state(self._next, len(pieces), STORED):
                    await self._store.check(self._obj, (other,))
                while self._names and self._next < len(pieces) and pieces.only_missing(piece):
                    await self._feed(min(self._next + _BATCH_PIECES, len(pieces)))
                if not pieces.only_missing(piece):
                    return None
                return {name: digest.digest() for name, digest in zip(self._names, self._digests, strict=True)}
            finally:
                self._restart()
                self._ahead = False

    async def close(self) -> None:
        """End a run ahead."""
        self._ahead = False
        if self._task is not None:
            await asyncio.wait((self._task,))

    def _restart(self) -> None:
        self._digests = tuple(hashlib.new(name, usedforsecurity=False) for name in self._names)
        self._next = self._until = 0

    def _run_ahead(self) -> None:
        if self._names and self._ahead and self._task is None and self._next in self._stored:
            self._task = asyncio.create_task(self._follow(), name=f"whole digest {self._obj.object_id}")
            self._task.add_done_callback(self._followed)

    def _followed(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()
        self._on_idle()

    async def _follow(self) -> None:
        self._obj.hold()
        try:
            async with self._one_at_a_time:
                while self._ahead and self._next in self._stored:
                    stop = self._next + 1
                    while stop in self._stored and stop < self._next + _BATCH_PIECES:
                        stop += 1
                    await self._feed(stop)
        except StoreError:
            self._ahead = False  # the flight that completes the object reads it again and fails
        finally:
            self._obj.release()

    async def _feed(self, stop: int) -> None:
        """Hash the pieces up to ``stop``; of no account where a piece was replaced meanwhile."""
        digests, first = self._digests, self._next
        self._until = stop
        start_byte, stop_byte = self._obj.pieces.bounds(first)[0], self._obj.pieces.bounds(stop - 1)[1]
        try:
            await self._store.run(self._obj.volume, self._obj.file.feed, digests, start_byte, stop_byte)
        except BaseException:
            if digests is self._digests:
                self._restart()
            raise
        if digests is self._digests:
            self._next = stop
            self._stored.difference_update(range(first, stop))
