"""Removal of objects: the file, the catalogue row, the charge in the ledger, the units of eviction.

Owns: the order of these steps, and what becomes of a file that the disk does not remove. Must not choose what to
remove: ``reclaim`` and ``Store.forget`` do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from cacheserver.core.errors import DiskError, StoreError
from cacheserver.ports import Meter
from cacheserver.store.object.file import disk_errors
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.stored_object import StoredObject, unit_key
from cacheserver.store.volume import Volume

T = TypeVar("T")


class Remover:
    """Removes objects from the volumes of one store."""

    def __init__(self, objects: OpenObjects, *, meter: Meter) -> None:
        self._objects = objects
        self._meter = meter

    async def drop_open(self, obj: StoredObject, *, reason: str) -> None:
        """Make an open object obsolete and remove its file and row."""
        if obj.obsolete:
            return
        volume = obj.volume
        obj.superseded = reason in ("superseded", "contradicted")
        self._objects.detach(obj)
        volume.catalogue.delete(obj.object_id)
        for extent in range(obj.extent_count):
            volume.policy.remove(obj.unit(extent))
        volume.ledger.leave(obj.charged_bytes)
        obj.when_gone = partial(volume.ledger.gone, obj.charged_bytes)
        volume.object_count -= 1
        self._meter.evicted(volume.path, reason, obj.charged_bytes)
        if reason == "space":
            volume.evicted_from(obj.representation.response_time_s)
        with obj.holding():
            await self._remove(volume, obj.object_id, obj.file.unlink_if_current)

    async def drop_file(self, volume: Volume, object_id: str, *, reason: str) -> bool:
        """Remove an object that is not open, or a Vary marker; True when an object was known to be there."""
        if not volume.opened:
            return False
        known = volume.reconciled and reason != "corrupt"
        try:
            record = volume.catalogue.get(object_id)
        except StoreError:
            record = None
            known = known and reason != "purged"  # a purge must be certain
        is_left = object_id in volume.leftovers and (reason == "purged" or volume.leftovers.is_due(object_id))
        if record is None and known and not is_left:
            return False
        volume.catalogue.delete(object_id)
        volume.policy.remove(unit_key(object_id, None))
        self._objects.notifications.removed(object_id)
        if record is not None:
            volume.ledger.give_back(record.stored_bytes)
            self._meter.evicted(volume.path, reason, record.stored_bytes)
            volume.object_count -= 1
            if record.vary:
                self._objects.drop_marker(object_id)
                if not is_left:
                    return False
        written_s = await self.remove_file(volume, object_id)
        if written_s is not None and reason == "space":
            volume.evicted_from(written_s)
        return (record is not None and not record.vary) or written_s is not None

    async def remove_file(self, volume: Volume, object_id: str) -> float | None:
        """Remove a file that is not open and belongs to no object any more; Unix time at which it was written.

        None where there is none, and where the disk refuses: the file is among the volume's leftovers then.
        """
        return await self._remove(volume, object_id, _unlink, volume.path_of(object_id))

    async def _remove(self, volume: Volume, object_id: str, unlink: Callable[..., T], *args: str) -> T | None:
        """The result of the blocking ``unlink``; None where the disk refuses: the file is among the leftovers then."""
        volume.leftovers.trying(object_id)
        try:
            removed = await self._objects.run(volume, unlink, *args)
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
