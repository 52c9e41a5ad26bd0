"""Giving space back: whole objects, extents of large ones, single files.

Owns: the steps by which bytes leave the store and the ledger. What to evict is ``core.eviction.s3fifo``'s choice;
objects and extents in use, and pinned objects, are never chosen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cacheserver.core.errors import DiskError, StoreError
from cacheserver.core.piece_map import ABSENT
from cacheserver.ports import Meter
from cacheserver.store.object.file import disk_errors
from cacheserver.store.stored_object import StoredObject, VaryMarker, split_unit, unit_key
from cacheserver.store.volume import Volume

if TYPE_CHECKING:
    from cacheserver.store.store import Store

T = TypeVar("T")
_LEAST_SHED_BYTES = 4 << 20


class Reclaimer:
    """Removes objects and extents from the volumes of one store."""

    def __init__(self, store: Store, *, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._locks: dict[Volume, asyncio.Lock] = {}
        self._shedding: dict[Volume, asyncio.Task[None]] = {}

    async def free(self, volume: Volume, wanted: int) -> bool:
        """Evict until ``wanted`` bytes are free; False when nothing more can go."""
        lock = self._locks.setdefault(volume, asyncio.Lock())
        async with lock:
            await volume.loaded.wait()
            await self._remove_leftovers(volume)
            while volume.ledger.free_bytes < wanted:
                units = volume.policy.victims(wanted - volume.ledger.free_bytes + volume.batch_bytes, skip=self._in_use)
                if not units:
                    return False
                for unit in units:
                    await self._evict(volume, unit)
        return True

    async def _remove_leftovers(self, volume: Volume) -> None:
        """Try some of the removals again that the disk refused; they take space that the ledger knows nothing of."""
        for object_id in volume.leftovers.due():
            if volume.writable and not self._store.is_creating(object_id):
                await self.remove_file(volume, object_id)

    def shed_behind(self, volume: Volume) -> None:
        """The drive is full although the ledger has room: others fill it, so the cache gives an eighth of itself up."""
        running = self._shedding.get(volume)
        if running is None or running.done():
            self._shedding[volume] = asyncio.create_task(self._shed(volume), name="shed")

    async def _shed(self, volume: Volume) -> None:
        if not volume.loaded.is_set():
            return
        wanted = max(_LEAST_SHED_BYTES, volume.ledger.stored_bytes // 8)
        async with self._locks.setdefault(volume, asyncio.Lock()):
            for unit in volume.policy.victims(wanted, skip=self._in_use):
                await self._evict(volume, unit)

    async def stop(self) -> None:
        """Wait for what is being given up."""
        await asyncio.gather(*self._shedding.values(), return_exceptions=True)

    def _in_use(self, unit: bytes) -> bool:
        object_id = split_unit(unit)[0]
        found = self._store.peek_quietly(object_id)
        if isinstance(found, StoredObject):
            return found.held or found.erasing is not None
        return self._store.is_finding(object_id)

    async def _evict(self, volume: Volume, unit: bytes) -> None:
        object_id, extent = split_unit(unit)
        found = self._store.peek_quietly(object_id)
        if volume.policy.is_pinned(unit) and not isinstance(found, StoredObject):
            return  # pinned since it was chosen; opening it lets the policy know of its units again
        if isinstance(found, StoredObject) and found.volume is volume:
            await self._evict_open(found, unit, extent)
        elif extent is None and not self._store.is_finding(object_id):
            await self.drop_file(volume, object_id, reason="space")
        else:
            opened = await self._store.find(object_id)
            if isinstance(opened, StoredObject) and opened.volume is not volume:
                await self.drop_file(volume, object_id, reason="space")  # an older generation, of no use any more
            elif extent is not None and isinstance(opened, StoredObject):
                await self._evict_open(opened, unit, extent)

    async def _evict_open(self, obj: StoredObject, unit: bytes, extent: int | None) -> None:
        if obj.obsolete:
            return
        if obj.held or obj.erasing is not None or obj.volume.policy.is_pinned(unit):
            if unit not in obj.volume.policy:
                obj.volume.policy.admit(unit, max(1, obj.charged_bytes // obj.extent_count))
        elif obj.extent_count > 1 and extent is not None:
            await self._evict_extent(obj, extent)
        else:
            await self.drop_open(obj, reason="space")

    async def _evict_extent(self, obj: StoredObject, extent: int) -> None:
        obj.volume.policy.remove(obj.unit(extent))
        first, stop = obj.extent_pieces_span(extent)
        freed = sum(obj.pieces.size_bytes(p) for p in range(first, stop) if obj.pieces.state(p) != ABSENT)
        for piece in range(first, stop):
            obj.pieces.mark(piece, ABSENT)
        if not obj.pieces.stored_bytes:
            await self.drop_open(obj, reason="space")
            return
        obj.erasing = asyncio.get_running_loop().create_future()
        obj.hold()
        self._store.news.gone(obj)
        failed = False
        try:
            await self._store.run(obj.volume, obj.file.erase, first, stop)
        except DiskError:
            failed = True
        finally:
            obj.erasing.set_result(None)
            obj.erasing = None
            obj.release()
        if failed or obj.obsolete:
            await self.drop_open(obj, reason="space")
            return
        obj.charged_bytes -= freed
        obj.volume.ledger.give_back(freed)
        self._store.note_row(obj)
        self._meter.evicted(obj.volume.path, "space", freed)
        obj.volume.evicted_from(obj.representation.response_time_s)

    async def drop_open(self, obj: StoredObject, *, reason: str) -> None:
        """Make an open object obsolete and remove its file and row."""
        if obj.obsolete:
            return
        volume = obj.volume
        self._store.detach(obj)
        volume.catalogue.delete(obj.object_id)
        for extent in range(obj.extent_count):
            volume.policy.remove(obj.unit(extent))
        volume.ledger.give_back(obj.charged_bytes)
        volume.object_count -= 1
        self._meter.evicted(volume.path, reason, obj.charged_bytes)
        if reason == "space":
            volume.evicted_from(obj.representation.response_time_s)
        obj.hold()
        try:
            await self._remove(volume, obj.object_id, obj.file.unlink_if_current)
        finally:
            obj.release()

    async def drop_file(self, volume: Volume, object_id: str, *, reason: str) -> bool:
        """Remove an object that is not open, or a Vary marker; whether an object was known to be there."""
        if not volume.opened:
            return False
        known = volume.reconciled and reason != "corrupt"
        try:
            record = volume.catalogue.get(object_id)
        except StoreError:
            record = None
            known = known and reason != "purged"  # whoever purges wants certainty
        is_left = object_id in volume.leftovers and (reason == "purged" or volume.leftovers.is_due(object_id))
        if record is None and known and not is_left:
            return False
        volume.catalogue.delete(object_id)
        volume.policy.remove(unit_key(object_id, None))
        self._store.news.removed(object_id)
        if record is not None:
            volume.ledger.give_back(record.stored_bytes)
            self._meter.evicted(volume.path, reason, record.stored_bytes)
            volume.object_count -= 1
            if record.vary:
                self._store.drop_marker(object_id)
                if not is_left:
                    return False
        written_s = await self.remove_file(volume, object_id)
        if written_s is not None and reason == "space":
            volume.evicted_from(written_s)
        return (record is not None and not record.vary) or written_s is not None

    async def remove_file(self, volume: Volume, object_id: str) -> float | None:
        """Remove a file that nobody has open, and that is no object's any more; when it was written.

        None where there is none, and where the disk refuses: the file is among the volume's leftovers then.
        """
        return await self._remove(volume, object_id, _unlink, volume.path_of(object_id))

    async def _remove(self, volume: Volume, object_id: str, unlink: Callable[..., T], *args: str) -> T | None:
        """What the blocking ``unlink`` gives; None where the disk refuses, and the file is among the leftovers then."""
        volume.leftovers.trying(object_id)
        try:
            removed = await self._store.run(volume, unlink, *args)
        except DiskError:
            volume.leftovers.refused(object_id)
            return None
        volume.leftovers.gone(object_id)
        return removed


def _unlink(path: str) -> float | None:
    """Remove a file; Unix time at which it was last written, None where there is none."""
    with disk_errors("remove"):
        try:
            written_s = os.stat(path, follow_symlinks=False).st_mtime
            os.unlink(path)
        except FileNotFoundError:
            return None
    return written_s


__all__ = ["Reclaimer", "VaryMarker"]
