"""Look-up of objects on the volumes: which volume has the object, and what its file says when it is opened.

Owns: the look-ups under way (callers share one), and the correction of ledger and catalogue where a file differs from
its row. A row on any volume comes before a file without a row: such a file is an older generation, or a power cut has
brought it back. Must not decide whether an object may be served.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from functools import partial

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.core.object_life import Event
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.placement import preferred_order
from cacheserver.store.removal import Remover
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume

Found = StoredObject | VaryMarker | None
_NOT_OURS = (errno.EACCES, errno.EPERM)
"""A file that this process may not open, as after a restore by root: it is fetched again in its own name."""


class Finder:
    """Finds objects, and opens those that are not open yet."""

    def __init__(self, volumes: Sequence[Volume], objects: OpenObjects, remover: Remover) -> None:
        self._volumes = volumes
        self._objects = objects
        self._remover = remover
        self._flights = SingleFlight[str, Found]("find")

    async def find(self, object_id: str) -> Found:
        """The object, opened, or the marker at its key; None when it is on no volume or unusable."""
        while True:
            found = self._objects.peek_quietly(object_id)
            if isinstance(found, StoredObject) and found.erasing is not None:
                await asyncio.shield(found.erasing)
                continue
            if object_id in self._objects.creating:
                async with self._objects.changing.holding(object_id):
                    continue  # whoever asks its origin now asks for what is on its way (I2)
            if found is not None:
                return self._objects.peek(object_id)
            return await self._flights.run(object_id, partial(self._find, object_id))

    async def _find(self, object_id: str) -> Found:
        async with self._objects.changing.holding(object_id):
            return await self.look(object_id)

    async def look(self, object_id: str) -> Found:
        """The same for a caller that holds the lock of this id."""
        found = self._objects.peek_quietly(object_id)
        return found or await self._look(object_id)

    async def _look(self, object_id: str) -> Found:
        unknown = []
        for volume in preferred_order(self._volumes, object_id):
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
                await self._remover.remove_file(volume, object_id)
            marker = VaryMarker(object_id, record.vary, record.length_bytes)
            self._objects.remember(object_id, marker)
            return marker
        return await self._opened(volume, object_id, known_bytes=record.stored_bytes)

    async def _opened(self, volume: Volume, object_id: str, *, known_bytes: int) -> StoredObject | None:
        """The object in this volume's file."""
        if object_id in volume.leftovers:
            return None
        try:
            file = await self._objects.run(volume, ObjectFile.open, volume.path_of(object_id))
            if file is not None and file.representation.object_id != object_id:
                file.close()
                raise CorruptObject("the file is another object's")
        except DiskError as exc:
            if exc.errno in _NOT_OURS:
                await self._remover.drop_file(volume, object_id, reason="corrupt")
            return None
        except CorruptObject:
            await self._remover.drop_file(volume, object_id, reason="corrupt")
            return None
        if file is None:
            if known_bytes:
                await self._remover.drop_file(volume, object_id, reason="corrupt")
            return None
        return self._adopted(volume, file, known_bytes)

    def _adopted(self, volume: Volume, file: ObjectFile, known_bytes: int) -> StoredObject:
        obj = self._objects.adopt(volume, file, Event.OPENED)
        volume.ledger.correct(obj.charged_bytes - known_bytes)
        volume.object_count += 0 if known_bytes else 1
        for extent in range(obj.extent_count):
            if obj.unit(extent) not in volume.policy:
                first, stop = obj.extent_pieces_span(extent)
                stored = obj.pieces.stored_count(first, stop) * obj.pieces.piece_size_bytes
                if stored or not extent:
                    volume.policy.admit(obj.unit(extent), max(1, stored))
        if known_bytes != obj.charged_bytes:
            self._objects.rows.note(obj)
        return obj


def _record(volume: Volume, object_id: str) -> CatalogueRecord | None:
    try:
        return volume.catalogue.get(object_id)
    except (DiskError, CorruptObject):
        return None
