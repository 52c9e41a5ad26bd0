"""What is found at an id: an object, a marker, or nothing, with the books put right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.stored_object import VaryMarker
from tests.support.meter import CountingMeter
from tests.support.stored import HandClock, put, representation, running_store

REP = representation()
MARKER = VaryMarker(REP.object_id, ("accept",))


@pytest.mark.parametrize("damage", ["cut", "gone", "of another user"])
async def test_what_cannot_be_used_is_dropped_as_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def refused(_path: str) -> ObjectFile:
        raise DiskError("open failed", errno=errno.EACCES)

    meter = CountingMeter()
    async with running_store(tmp_path) as store:
        path = Path((await put(store, REP)).file.path)
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "gone":
        path.unlink()
    async with running_store(tmp_path, meter=meter) as store:
        with monkeypatch.context() as patched:
            if damage == "of another user":
                patched.setattr(ObjectFile, "open", refused)
            assert await store.find(REP.object_id) is None
        assert meter.counts["evicted", "corrupt"] == 1
        assert (store.volumes[0].object_count, store.volumes[0].ledger.stored_bytes, path.exists()) == (0, 0, False)


async def test_an_object_that_the_disk_fails_to_open_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_path: str) -> ObjectFile:
        raise DiskError("open failed", errno=errno.EIO)

    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(ObjectFile, "open", failing)
            assert await store.find(REP.object_id) is None
        assert await store.find(REP.object_id) is not None


async def test_a_marker_that_is_not_open_can_be_forgotten(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.mark_vary(MARKER, service="own")
    async with running_store(tmp_path) as store:
        await store.forget(REP.object_id, reason="purged")
        assert await store.find(REP.object_id) is None
        assert (store.volumes[0].object_count, store.volumes[0].ledger.stored_bytes) == (0, 0)


async def test_no_marker_is_made_where_no_volume_takes_it(tmp_path: Path) -> None:
    async with running_store(tmp_path, clock=HandClock()) as store:
        store.volumes[0].failed(DiskError("full", errno=errno.ENOSPC))
        await store.mark_vary(MARKER, service="own")
        assert await store.find(REP.object_id) is None
