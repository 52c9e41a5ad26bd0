"""Finding an object on the volumes: which one has it, and what its file says when it is opened.

Owns: the look-ups under way, many may wait for one; the correction of the books where a file is not what its row says.
A row anywhere comes before a file that no row speaks of: such a file is an older generation, or one that a cut has
brought back. Must not decide whether what it finds may be served.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.core.piece_map import STORED
from cacheserver.store.catalogue.catalogue import CatalogueRecord
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.placement import preferred_order
from cacheserver.store.reclaim import Reclaimer
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume

if TYPE_CHECKING:
    from cacheserver.store.store import Store

Found = StoredObject | VaryMarker | None


class Finder:
    """Opens what is on disk and not open yet."""

    def __init__(self, store: Store, reclaimer: Reclaimer) -> None:
        self._store = store
        self._reclaimer = reclaimer
        self._flights: dict[str, asyncio.Future[Found]] = {}

    async def find(self, object_id: str) -> Found:
        """The object, opened, or the marker at its key; None when it is on no volume or unusable."""
        flight = self._flights.get(object_id)
        if flight is None:
            flight = asyncio.ensure_future(self._look(object_id))
            self._flights[object_id] = flight
            flight.add_done_callback(lambda _done: self._flights.pop(object_id, None))
        return await asyncio.shield(flight)

    def is_finding(self, object_id: str) -> bool:
        """Whether the object's file is being opened right now."""
        return object_id in self._flights

    async def settled(self, object_id: str) -> None:
        """Wait for a look-up that is under way."""
        if object_id in self._flights:
            await asyncio.wait((self._flights[object_id],))

    async def _look(self, object_id: str) -> Found:
        unknown = []
        for volume in preferred_order(self._store.volumes, object_id):
            if not volume.online:
                continue
            record = _record(volume, object_id)
            if record is not None:
                found = await self._by_row(volume, object_id, record)
                if found is not None:
                    return found
            elif not volume.reconciled:
                unknown.append(volume)
        for volume in unknown:
            found = await self._opened(volume, object_id, known_bytes=0)
            if found is not None:
                return found
        return None

    async def _by_row(self, volume: Volume, object_id: str, record: CatalogueRecord) -> Found:
        if record.vary:
            if not volume.reconciled:  # a power cut may have brought the object back that stood here before
                await self._reclaimer.remove_file(volume, object_id)
            return self._store.remember(object_id, VaryMarker(object_id, record.vary))
        return await self._opened(volume, object_id, known_bytes=record.stored_bytes)

    async def _opened(self, volume: Volume, object_id: str, *, known_bytes: int) -> StoredObject | None:
        """The object in this volume's file."""
        if object_id in volume.leftovers:
            return None
        try:
            file = await self._store.run(volume, ObjectFile.open, volume.path_of(object_id))
            if file is not None and file.representation.object_id != object_id:
                file.close()
                raise CorruptObject("the file is another object's")
        except DiskError:
            return None
        except CorruptObject:
            await self._reclaimer.drop_file(volume, object_id, reason="corrupt")
            return None
        if file is None:
            if known_bytes:
                await self._reclaimer.drop_file(volume, object_id, reason="corrupt")
            return None
        if self._store.is_forgetting(object_id):
            file.close()
            return None
        obj = self._adopted(volume, file, known_bytes)
        self._store.remember(object_id, obj)
        return obj

    def _adopted(self, volume: Volume, file: ObjectFile, known_bytes: int) -> StoredObject:
        obj = self._store.wrap(volume, file)
        obj.charged_bytes = file.layout.footer_bytes + file.pieces.stored_bytes
        volume.ledger.correct(obj.charged_bytes - known_bytes)
        volume.object_count += 0 if known_bytes else 1
        for extent in range(obj.extent_count):
            if obj.unit(extent) not in volume.policy:
                first, stop = obj.extent_pieces_span(extent)
                stored = len(obj.pieces.pieces_in_state(first, stop, STORED)) * obj.pieces.piece_size_bytes
                volume.policy.admit(obj.unit(extent), max(1, stored))
        if known_bytes != obj.charged_bytes:
            self._store.note_row(obj)
        return obj


def _record(volume: Volume, object_id: str) -> CatalogueRecord | None:
    try:
        return volume.catalogue.get(object_id)
    except (DiskError, CorruptObject):
        return None
