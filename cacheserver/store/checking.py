"""Checking stored pieces against their own digests before they are delivered (I1).

Owns: which checks are under way; many may wait for one. Must not decide what happens to a bad piece beyond taking it
out of service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cacheserver.core.errors import DiskError, PieceMismatch
from cacheserver.core.piece_map import PRESENT
from cacheserver.ports import Meter
from cacheserver.store.stored_object import StoredObject

if TYPE_CHECKING:
    from cacheserver.store.store import Store


class Checker:
    """Hashes pieces in the store's threads, each once however many wait for it."""

    def __init__(self, store: Store, *, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._flights: dict[tuple[int, int], asyncio.Future[None]] = {}

    async def check(self, obj: StoredObject, pieces: Sequence[int]) -> None:
        """Hash stored pieces: each becomes PRESENT, or ABSENT when it is bad or unreadable."""
        for piece in pieces:
            flight = self._flights.get((id(obj), piece))
            if flight is None:
                flight = asyncio.ensure_future(self._check_one(obj, piece))
                self._flights[(id(obj), piece)] = flight
            await asyncio.shield(flight)

    async def _check_one(self, obj: StoredObject, piece: int) -> None:
        obj.hold()
        try:
            await self._store.run(obj.volume, obj.file.check_piece, piece)
        except (PieceMismatch, DiskError) as exc:
            self._meter.verified("at_rest", "bad" if isinstance(exc, PieceMismatch) else "unreadable")
            self._store.drop_piece(obj, piece)
        else:
            self._meter.verified("at_rest", "ok")
            obj.pieces.mark(piece, PRESENT)
        finally:
            obj.release()
            del self._flights[(id(obj), piece)]
