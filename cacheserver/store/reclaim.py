"""Eviction for space: whole objects, and extents of large ones.

Owns: when a volume evicts, and how an extent is erased. ``core.eviction.s3fifo`` chooses what to evict; objects and
extents in use, and pinned objects, are never chosen.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.errors import DiskError
from cacheserver.core.piece_map import ABSENT
from cacheserver.ports import Meter
from cacheserver.store.finding import Finder
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.removal import Remover
from cacheserver.store.stored_object import StoredObject, split_unit
from cacheserver.store.volume import Volume

_LEAST_SHED_BYTES = 4 << 20


class Reclaimer:
    """Evicts from the volumes of one store, on demand and when a drive is full."""

    def __init__(self, objects: OpenObjects, finder: Finder, remover: Remover, *, meter: Meter) -> None:
        self._objects = objects
        self._finder = finder
        self._remover = remover
        self._meter = meter
        self._locks = defaultdict[Volume, asyncio.Lock](asyncio.Lock)
        self.shedding = SingleFlight[Volume, None]("shed")
        """Evictions from full drives."""
        objects.notifications.drive_full.append(self._shed_soon)

    async def free(self, volume: Volume, wanted: int) -> bool:
        """Evict until ``wanted`` bytes are free; False when nothing more can go."""
        async with self._locks[volume]:
            await volume.loaded.wait()
            await self._remove_leftovers(volume)
            while volume.ledger.free_bytes < wanted:
                units = volume.policy.victims(wanted - volume.ledger.free_bytes + volume.batch_bytes, skip=self._in_use)
                if not units:
                    return False
                for unit in units:
                    await self._evict(volume, unit)
                    if not volume.writable:
                        return False  # where the disk removes nothing, more would be lost without a byte of room
        return True

    async def _remove_leftovers(self, volume: Volume) -> None:
        """Try again some removals that the disk refused."""
        for object_id in volume.leftovers.due():
            if volume.writable and object_id not in self._objects.changing:
                async with self._objects.changing.holding(object_id):
                    await self._remover.remove_file(volume, object_id)

    def _shed_soon(self, volume: Volume) -> None:
        """The drive is full although the ledger has space: other programs fill it. Evict an eighth of the cache."""
        self.shedding.start(volume, partial(self._shed, volume))

    async def _shed(self, volume: Volume) -> None:
        if not volume.loaded.is_set():
            return
        wanted = max(_LEAST_SHED_BYTES, volume.ledger.stored_bytes // 8)
        async with self._locks[volume]:
            before = volume.ledger.stored_bytes
            for unit in volume.policy.victims(wanted, skip=self._in_use):
                await self._evict(volume, unit)
            if volume.ledger.stored_bytes < before:
                volume.room_was_made(before)

    def _in_use(self, unit: bytes) -> bool:
        object_id = split_unit(unit)[0]
        found = self._objects.peek_quietly(object_id)
        if object_id in self._objects.changing:
            return True
        return isinstance(found, StoredObject) and found.held

    async def _evict(self, volume: Volume, unit: bytes) -> None:
        """Evict one unit; not where its object is changing, which would wait for others while they wait for space."""
        object_id, extent = split_unit(unit)
        if object_id not in self._objects.changing:
            async with self._objects.changing.holding(object_id):
                await self._evict_locked(volume, unit, object_id, extent)
            return
        found = self._objects.peek_quietly(object_id)
        if isinstance(found, StoredObject):
            _readmit(found, unit)

    async def _evict_locked(self, volume: Volume, unit: bytes, object_id: str, extent: int | None) -> None:
        found = self._objects.peek_quietly(object_id)
        if volume.policy.is_pinned(unit) and not isinstance(found, StoredObject):
            return  # pinned since it was chosen; opening it lets the policy know of its units again
        if isinstance(found, StoredObject) and found.volume is volume:
            await self._evict_open(found, unit, extent)
        elif extent is None and not isinstance(found, StoredObject):
            await self._remover.drop_file(volume, object_id, reason="space")
        else:
            opened = await self._finder.look(object_id)
            if isinstance(opened, StoredObject) and opened.volume is not volume:  # this is an older generation
                await self._remover.drop_file(volume, object_id, reason="space")
            elif extent is not None and isinstance(opened, StoredObject):
                await self._evict_open(opened, unit, extent)

    async def _evict_open(self, obj: StoredObject, unit: bytes, extent: int | None) -> None:
        if obj.obsolete:
            return
        if obj.held or obj.volume.policy.is_pinned(unit):
            _readmit(obj, unit)
        elif obj.extent_count > 1 and extent is not None:
            await self._evict_extent(obj, extent)
        else:
            await self._remover.drop_open(obj, reason="space")

    async def _evict_extent(self, obj: StoredObject, extent: int) -> None:
        obj.volume.policy.remove(obj.unit(extent))
        if extent >= obj.extent_count:
            return  # the settings have made extents larger since its row was read
        first, stop = obj.extent_pieces_span(extent)
        pieces = [p for p in range(first, stop) if p in obj.torn or obj.pieces.state(p) != ABSENT]
        for piece in range(first, stop):
            obj.pieces.mark(piece, ABSENT)
        if not obj.pieces.stored_bytes:
            await self._remover.drop_open(obj, reason="space")
            return
        obj.erasing = asyncio.get_running_loop().create_future()
        obj.hold()
        self._objects.notifications.withdrawn(obj)
        failed = False
        try:
            await self._objects.run(obj.volume, obj.file.erase, first, stop)
        except DiskError:
            failed = True
        finally:
            obj.erasing.set_result(None)
            obj.erasing = None
            obj.release()
        if failed or obj.obsolete:
            await self._remover.drop_open(obj, reason="space")
            return
        freed = self._objects.give_back(obj, pieces)
        self._objects.rows.note(obj)
        self._meter.evicted(obj.volume.path, "space", freed)
        obj.volume.evicted_from(obj.representation.response_time_s)


def _readmit(obj: StoredObject, unit: bytes) -> None:
    """Put a unit back that was chosen and not evicted."""
    if not obj.obsolete and unit not in obj.volume.policy:
        obj.volume.policy.admit(unit, max(1, obj.charged_bytes // obj.extent_count))
