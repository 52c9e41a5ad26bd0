"""Removal of objects: the file, the catalogue row, the charge in the ledger, the units of eviction.

Owns: the order of these steps, and what becomes of a file that the disk does not remove. Must not choose what to
remove: ``reclaim`` and ``Store.forget`` do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from cacheserver.core.errors import DiskError, StoreError
from cacheserver.ports import Meter
from cacheserver.store.object.file import disk_errors
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.stored_object import StoredObject, unit_key
from cacheserver.store.volume import Volume


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
            if await self._is_left(volume, obj.object_id, obj.charged_bytes, reason, obj.file.unlink_if_current):
                obj.when_gone = None

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
            volume.ledger.leave(record.stored_bytes)
            self._meter.evicted(volume.path, reason, record.stored_bytes)
            volume.object_count -= 1
            if record.vary:
                self._objects.drop_marker(object_id)
                if not is_left:
                    volume.ledger.gone(record.stored_bytes)
                    return False
        written_s = await self.remove_file(
            volume, object_id, record.stored_bytes if record is not None else 0, reason=reason
        )
        if written_s is not None and reason == "space":
            volume.evicted_from(written_s)
        return (record is not None and not record.vary) or written_s is not None

    async def remove_file(
        self, volume: Volume, object_id: str, leaving_bytes: int = 0, *, reason: str = ""
    ) -> float | None:
        """Remove a file that is not open and belongs to no object any more; Unix time at which it was written.

        None where there is none, and where the disk refuses: the file is among the volume's leftovers then, and
        ``leaving_bytes`` of the ledger leave with it.
        """
        ledger, written_s = volume.ledger, list[float]()
        path = volume.path_of(object_id)
        if not await self._is_left(volume, object_id, leaving_bytes, reason, _unlink, path, written_s):
            ledger.gone(leaving_bytes)
        return written_s[0] if written_s else None

    async def _is_left(
        self, volume: Volume, object_id: str, leaving_bytes: int, reason: str, unlink: Callable[..., None], *args: Any
    ) -> bool:
        """Run the blocking ``unlink``; True where the disk refuses: the file is among the leftovers then."""
        leftovers = volume.leftovers
        leftovers.trying(object_id)
        try:
            await self._objects.run(volume, unlink, *args)
        except DiskError as exc:
            if reason == "space":
                volume.refused(exc)
            return leftovers.refused(object_id, leaving_bytes)
        if reason == "space":
            volume.obeyed()
        leftovers.gone(object_id)
        return False


def _unlink(path: str, written_s: list[float]) -> None:
    """Remove a file; the Unix time at which it was last written is added to the list, nothing where there is none."""
    with disk_errors("remove"), suppress(FileNotFoundError):
        found_s = os.stat(path, follow_symlinks=False).st_mtime
        os.unlink(path)
        written_s.append(found_s)


def inspected(volume: Volume, objects: Sequence[StoredObject]) -> tuple[str | None, list[StoredObject]]:
    """Why a volume is not what was opened, or None; and those of its objects whose files others have removed."""
    reason = volume.inspect()
    return reason, [obj for obj in objects if not obj.file.stands()] if reason is None else []
