"""Files that a disk does not let go of: nobody finds them any more, and they are removed once it does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.maintenance.purging import Purged, purge
from cacheserver.store.store import Store
from tests.support.stored import PIECE, HandClock, found, put, representation, running_store

REP = representation()


class Disk:
    """Refuses to remove object files while ``refuses``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = True
        self._unlink = os.unlink
        monkeypatch.setattr(os, "unlink", self._removed)

    def _removed(self, path: str) -> None:
        if self.refuses and "/objects/" in str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._unlink(path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.refuses = False


def file_of(store: Store) -> Path:
    return Path(store.volumes[0].path_of(REP.object_id))


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("reconciled", [True, False])
async def test_what_was_forgotten_is_not_found_though_its_file_stays(
    tmp_path: Path, disk: Disk, is_open: bool, reconciled: bool
) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        if is_open:
            await found(store, REP)
        store.volumes[0].reconciled = reconciled
        assert await store.forget(REP.object_id, reason="purged")
        assert file_of(store).exists()
        assert await store.find(REP.object_id) is None
        disk.refuses = False
        assert await store.find(REP.object_id) is None
        assert not file_of(store).exists()
        assert not store.volumes[0].leftovers
        assert (store.volumes[0].object_count, store.volumes[0].ledger.stored_bytes) == (0, 0)


async def test_whoever_needs_space_removes_what_was_left(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path, capacity_bytes=40 * PIECE) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        assert file_of(store).exists()
        disk.refuses = False
        for number in range(30):
            await put(store, representation(f"n{number}"))
        assert not file_of(store).exists()
        assert not store.volumes[0].leftovers


async def test_next_generation_in_the_place_of_a_leftover_stays(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path, open_objects=1) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        await put(store, REP)
        store.write_rows()
        for name in ("x", "y"):
            await put(store, representation(name))  # closes the first
        assert store.peek_quietly(REP.object_id) is None
        disk.refuses = False
        assert (await found(store, REP)).pieces.complete
        assert not store.volumes[0].leftovers


async def test_a_purge_names_the_volume_whose_disk_refused(tmp_path: Path, disk: Disk) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        volume = store.volumes[0]
        await put(store, REP)
        assert await purge(store, REP.object_id) == Purged(1, (volume.path,))
        assert await purge(store, REP.object_id) == Purged(0, (volume.path,))
        disk.refuses = False
        clock.now_s += 60
        assert await purge(store, REP.object_id) == Purged(0, ())
        assert not file_of(store).exists()


async def test_a_purge_reaches_what_lies_on_a_volume_that_is_away(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path, clock=clock) as store:
        volume = store.volumes[0]
        while volume.online:
            volume.failed(DiskError("read failed", errno=errno.EIO))
        assert await purge(store, REP.object_id) == Purged(1, (volume.path,))
        clock.now_s += 60
        assert await store.find(REP.object_id) is None
        assert await purge(store, REP.object_id) == Purged(0, ())
