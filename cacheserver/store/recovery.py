"""The background walk of one volume after a start: fill the eviction policy, reconcile files with the catalogue.

Owns: that walk. Must not delay requests, which need none of it. After a clean stop only the catalogue is read; after an
unclean one every object directory is listed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import CorruptObject, DiskError, VolumeOffline
from cacheserver.logs.events import event, get_logger
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.object.file import SLACK_BYTES, disk_errors
from cacheserver.store.object.layout import extent_bytes_of
from cacheserver.store.store import Store
from cacheserver.store.stored_object import unit_key
from cacheserver.store.volume import Volume

_log = get_logger(__name__)
_NAME = re.compile(r"[0-9a-f]{32}")
_BATCH = 1000
_LISTED_AT_ONCE = 16
"""Directories in one trip to a thread."""
_ROWS_IN_A_TURN = 100
"""Rows that are looked up in one turn of the loop: about a millisecond."""


async def recover(store: Store, volume: Volume, *, extent_bytes: int) -> None:
    """Bring one volume's policy and catalogue into line with its files."""
    try:
        await to_the_end(volume.load_recency(store.executor))
        await _load_rows(store, volume, extent_bytes)
    except (CorruptObject, DiskError) as exc:
        event(_log, "catalogue_damaged", severity=logging.ERROR, volume=volume.path, reason=str(exc))
        volume.reconciled = False  # the files know what the rows do not tell
    finally:
        volume.loaded.set()
    if not volume.reconciled:
        directories = [os.path.join(volume.path, "objects", f"{fan:02x}") for fan in range(256)]
        parts = [directories[at : at + _LISTED_AT_ONCE] for at in range(0, len(directories), _LISTED_AT_ONCE)]
        volume.reconciled = all([await _reconcile(store, volume, part) for part in parts])


async def audit(store: Store, volume: Volume) -> None:
    """Compare what every row charges with what its file takes on disk; open what differs, which puts it right.

    Takes a tenth of one thread's time. Ends early where the volume goes offline or is lost.
    """
    try:
        async with contextlib.aclosing(volume.catalogue.objects(store.executor)) as rows:
            batch = []
            async for object_id, record in rows:
                batch.append((object_id, record.stored_bytes))
                if len(batch) == _BATCH:
                    await _audit(store, volume, batch)
                    batch = []
            await _audit(store, volume, batch)
    except (CorruptObject, DiskError, VolumeOffline) as exc:
        event(_log, "audit_interrupted", volume=volume.path, reason=str(exc))


async def _audit(store: Store, volume: Volume, batch: Sequence[tuple[str, int]]) -> None:
    began_s = time.monotonic()
    differing = await store.run(volume, _differing, [(volume.path_of(each), charged) for each, charged in batch])
    took_s = time.monotonic() - began_s
    for path in differing:
        object_id = os.path.basename(path)
        with store.visiting(object_id):
            await store.find(object_id)
    await asyncio.sleep(9 * took_s)


async def _load_rows(store: Store, volume: Volume, extent_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    volume.policy.expect(volume.object_count)
    batches: Iterator[list[tuple[str, CatalogueRecord]]] = volume.catalogue.iterate(batch=_BATCH)
    while batch := await loop.run_in_executor(store.executor, next, batches, None):
        for object_id, record in batch:
            for unit, size_bytes in _units(object_id, record, extent_bytes):
                volume.policy.admit_unless_known(unit, size_bytes)
        await asyncio.sleep(0)


def _units(object_id: str, record: CatalogueRecord, extent_bytes: int) -> Iterator[tuple[bytes, int]]:
    extents = -(-record.length_bytes // extent_bytes_of(record.length_bytes, extent_bytes))
    if extents <= 1:
        yield unit_key(object_id, None), max(1, record.stored_bytes)
        return
    for extent in range(extents):
        yield unit_key(object_id, extent), max(1, record.stored_bytes // extents)


async def _reconcile(store: Store, volume: Volume, directories: Sequence[str]) -> bool:
    """Adopt files without a row, remove strays and older generations; False where the disk failed."""
    try:
        for number, (directory, name) in enumerate(await store.run(volume, _listed, directories)):
            if number % _ROWS_IN_A_TURN == 0:
                await asyncio.sleep(0)
            if not _NAME.fullmatch(name):
                # The lock: a file of this form may be the one that is being made, or an earlier process has left it.
                await store.run_alone(name.partition(".")[0], volume, _unlink_stray, os.path.join(directory, name))
            elif not _has_object_row(volume, name):
                await store.find(name)
    except DiskError:
        return False
    return True


def _has_object_row(volume: Volume, object_id: str) -> bool:
    try:
        record = volume.catalogue.get(object_id)
        return record is not None and not record.vary
    except CorruptObject:
        return False


def _listed(directories: Sequence[str]) -> list[tuple[str, str]]:
    """Directory and name of every file."""
    with disk_errors("list"):
        return [(directory, name) for directory in directories for name in os.listdir(directory)]


def _differing(charges: Sequence[tuple[str, int]]) -> list[str]:
    """Files that take more than is charged for them, or far less, or are not there."""
    differing = []
    with disk_errors("measure"):
        for path, charged_bytes in charges:
            try:
                taken_bytes = os.stat(path, follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                taken_bytes = -SLACK_BYTES - 1
            if not taken_bytes <= charged_bytes <= taken_bytes + SLACK_BYTES:
                differing.append(path)
    return differing


def _unlink_stray(path: str) -> None:
    with disk_errors("remove"), contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        os.unlink(path)
