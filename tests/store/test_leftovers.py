"""Files that a disk does not let go of: nobody finds them any more, and they are removed once it does."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.core.request.keys import object_id
from cacheserver.maintenance.purging import Purged, purge
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.ledger import Ledger
from cacheserver.store.leftovers import Leftovers
from cacheserver.store.store import Store
from cacheserver.store.stored_object import VaryMarker
from tests.support.stored import (
    PIECE,
    HandClock,
    bytes_on_disk,
    found,
    put,
    representation,
    running_store,
    settled,
    take_offline,
)

REP = representation()


class Disk:
    """Fails to remove object files while ``refuses``, and may not remove those in ``stuck``; once ``gate`` is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = True
        self.stuck: set[str] = set()
        self.asked, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self._unlink = os.unlink
        monkeypatch.setattr(os, "unlink", self._removed)

    def _removed(self, path: str, *, dir_fd: int | None = None) -> None:
        if "/objects/" in str(path):
            code = errno.EPERM if os.path.basename(path) in self.stuck else errno.EIO if self.refuses else 0
            self.asked.set()
            self.gate.wait(10)
            if code:
                raise OSError(code, os.strerror(code))
        self._unlink(path, dir_fd=dir_fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.refuses = False
    made.stuck.clear()


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
        assert await store.forget(REP.object_id, reason="purged")
        assert not file_of(store).exists()
        assert not store.volumes[0].leftovers
        assert (store.volumes[0].object_count, store.volumes[0].ledger.stored_bytes) == (0, 0)


async def test_whoever_needs_space_removes_what_was_left_after_a_while(tmp_path: Path, disk: Disk) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock, capacity_bytes=40 * PIECE) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        disk.refuses = False
        for number in range(30):
            await put(store, representation(f"n{number}"))
        assert file_of(store).exists()
        clock.now_s += 60
        for number in range(30):
            await put(store, representation(f"m{number}"))
        assert not file_of(store).exists()
        assert not store.volumes[0].leftovers


async def test_files_that_cannot_be_removed_do_not_take_the_volume_offline(tmp_path: Path, disk: Disk) -> None:
    clock = HandClock()
    disk.refuses = False
    async with running_store(tmp_path, clock=clock, capacity_bytes=140 * PIECE) as store:
        volume = store.volumes[0]
        for number in range(20):
            rep = representation(f"n{number}")
            await put(store, rep)
            disk.stuck.add(rep.object_id)
            await store.forget(rep.object_id, reason="purged")
        assert (volume.error_count, len(volume.leftovers), volume.online) == (0, 20, True)
        for number in range(60):
            clock.now_s += 60
            await put(store, representation(f"m{number}"))
        assert (len(volume.leftovers), volume.online) == (20, True)


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_a_file_takes_that_the_disk_keeps_stays_in_the_books(
    tmp_path: Path, disk: Disk, is_open: bool
) -> None:
    async with running_store(tmp_path, open_objects=1) as store:
        await put(store, REP)
        if not is_open:
            await closed(store)
        ledger, stored_bytes = store.volumes[0].ledger, found_bytes(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "stuck", {REP.object_id})
            patch.setattr(disk, "refuses", False)
            await store.forget(REP.object_id, reason="purged")
        await settled()
        assert (ledger.leaving_bytes, ledger.stored_bytes + ledger.leaving_bytes) == (
            stored_bytes,
            bytes_on_disk(tmp_path),
        )
    async with running_store(tmp_path) as store:
        ledger = store.volumes[0].ledger
        assert ledger.leaving_bytes == stored_bytes
        disk.refuses = False
        await store._reclaimer.free(store.volumes[0], 0)
        assert (ledger.leaving_bytes, ledger.stored_bytes) == (0, bytes_on_disk(tmp_path))


@pytest.mark.parametrize("every_file", [True, False])
async def test_room_that_the_disk_does_not_give_is_not_looked_for_in_all_objects(
    tmp_path: Path, disk: Disk, every_file: bool
) -> None:
    async with running_store(tmp_path, capacity_bytes=140 * PIECE) as store:
        volume, count = store.volumes[0], 0
        while volume.ledger.free_bytes > 10 * PIECE:
            stored = await put(store, representation(f"n{count}"))
            disk.stuck.add(stored.object_id)
            count += 1
        disk.refuses = False
        if not every_file:
            disk.stuck.clear()
            disk.refuses = True
        assert not await store._reclaimer.free(volume, 20 * PIECE)
        assert count > 15
        assert volume.object_count == count - volume._errors_until_offline
        assert not volume.writable


async def test_newer_generation_stays_when_the_removal_of_the_older_one_fails_late(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path, open_objects=1) as store:
        await put(store, REP)
        disk.gate.clear()
        forgetting = asyncio.ensure_future(store.forget(REP.object_id, reason="purged"))
        assert await asyncio.to_thread(disk.asked.wait, 10)
        putting = asyncio.ensure_future(put(store, REP))  # its turn comes after the removal
        await settled()
        disk.gate.set()
        assert await forgetting
        await putting
        await closed(store)
        disk.refuses = False
        assert (await found(store, REP)).pieces.complete
        assert not store.volumes[0].leftovers


async def test_a_clean_stop_remembers_what_is_still_to_be_removed(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
    disk.refuses = False
    async with running_store(tmp_path) as store:
        assert file_of(store).exists()
        assert await store.find(REP.object_id) is None
        await store._reclaimer.free(store.volumes[0], 0)
        assert not file_of(store).exists()
    async with running_store(tmp_path) as store:
        assert not store.volumes[0].leftovers


async def test_next_generation_in_the_place_of_a_leftover_stays(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path, open_objects=1) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        await put(store, REP)
        await closed(store)
        assert (await found(store, REP)).pieces.complete
        assert not store.volumes[0].leftovers


async def test_a_purge_names_the_volume_whose_disk_refused(tmp_path: Path, disk: Disk) -> None:
    async with running_store(tmp_path) as store:
        volume = store.volumes[0]
        await put(store, REP)
        assert await purge(store, REP.object_id) == Purged(1, (), (volume.path,))
        assert await purge(store, REP.object_id) == Purged(0, (), (volume.path,))
        disk.refuses = False
        assert await purge(store, REP.object_id) == Purged(1, (), ())
        assert not file_of(store).exists()
        assert await purge(store, REP.object_id) == Purged(0, (), ())


async def test_a_purge_reaches_what_lies_on_a_volume_that_is_away(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path, clock=clock) as store:
        volume = store.volumes[0]
        take_offline(volume)
        assert await purge(store, REP.object_id) == Purged(1, (volume.path,), ())
        clock.now_s += 60
        assert await store.find(REP.object_id) is None
        assert await purge(store, REP.object_id) == Purged(0, (), ())


async def test_marker_leads_to_the_variants_of_a_volume_that_was_away_when_it_was_purged(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "one", tmp_path / "two", clock=clock) as store:
        variants = []
        for number in range(20):
            key = f"{REP.key}\n{number}"
            variants.append(await put(store, replace(REP, key=key, object_id=object_id(key), vary=("accept",))))
        await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service=REP.service)
        marked = next(volume for volume in store.volumes if volume.catalogue.get(REP.object_id) is not None)
        (other,) = (volume for volume in store.volumes if volume is not marked)
        there = [obj.object_id for obj in variants if obj.volume is other]
        assert 0 < len(there) < 20
        take_offline(other)
        first = await purge(store, REP.object_id)
        assert first.away == (other.path,)
        clock.now_s += 60
        second = await purge(store, REP.object_id)
        assert (first.removed + second.removed, second.away) == (20, ())
        assert [await store.find(obj.object_id) for obj in variants] == [None] * 20
        assert await store.find(REP.object_id) is None


def test_a_few_are_due_at_a_time_and_the_longest_untried_come_first() -> None:
    clock = HandClock()
    leftovers = Leftovers(Ledger(capacity_bytes=0), clock=clock, retry_s=5.0)
    leftovers.trying("under way")
    names = [f"{number:02}" for number in range(10)]
    for name in names:
        leftovers.trying(name)
        leftovers.refused(name, 0)
        clock.now_s += 1
    assert leftovers.due() == names[:6]
    clock.now_s += 10
    assert leftovers.due() == names[:8]
    for name in names[:8]:
        leftovers.trying(name)
        leftovers.refused(name, 0)
    assert leftovers.due() == names[8:]
    leftovers.gone("09")
    assert not leftovers.refused("09", 1)
    assert (leftovers.due(), "09" in leftovers) == (["08"], False)


def found_bytes(store: Store) -> int:
    """What is charged for the object."""
    with open(file_of(store), "rb") as file:
        return os.fstat(file.fileno()).st_blocks * 512


async def closed(store: Store) -> None:
    """Have the object closed: others are opened, of which the store keeps but one."""
    store.write_rows()
    for name in ("x", "y"):
        await put(store, representation(name))
    assert store.peek_quietly(REP.object_id) is None


async def test_nothing_is_removed_from_a_volume_that_takes_no_writes(tmp_path: Path, disk: Disk) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        (volume,) = store.volumes
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        disk.refuses = False
        clock.now_s += 60
        volume.failed(DiskError("write failed", errno=errno.EROFS))
        await store._reclaimer.free(volume, 0)
        assert file_of(store).exists()
        clock.now_s += 60
        await store._reclaimer.free(volume, 0)
        assert not file_of(store).exists()


async def test_an_eviction_tries_a_leftover_again_only_when_it_is_due(tmp_path: Path, disk: Disk) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        volume, remover = store.volumes[0], store._remover
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        disk.refuses = False
        assert not await remover.drop_file(volume, REP.object_id, reason="space")
        assert file_of(store).exists()
        clock.now_s += 60
        assert await remover.drop_file(volume, REP.object_id, reason="space")
        assert not file_of(store).exists()


@pytest.mark.parametrize("is_left", [True, False])
async def test_a_marker_that_is_forgotten_takes_a_leftover_at_its_key_along_and_tries_no_other_file(
    tmp_path: Path, disk: Disk, is_left: bool
) -> None:
    disk.refuses = is_left
    async with running_store(tmp_path) as store:
        volume = store.volumes[0]
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
        disk.refuses = False
        disk.asked.clear()
        assert await store.forget(REP.object_id, reason="purged") is is_left
        assert disk.asked.is_set() is is_left
        assert not file_of(store).exists()
        assert store.peek(REP.object_id) is None
        assert (volume.object_count, volume.ledger.stored_bytes) == (0, 0)


async def test_whoever_needs_space_does_not_wait_for_a_leftover_whose_object_is_changing(
    tmp_path: Path, disk: Disk
) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await put(store, REP)
        await store.forget(REP.object_id, reason="purged")
        disk.refuses = False
        clock.now_s += 60
        async with store._objects.changing.holding(REP.object_id), asyncio.timeout(5):
            assert await store._reclaimer.free(store.volumes[0], 1)
        assert file_of(store).exists()


@pytest.mark.parametrize(("reason", "removed"), [("purged", True), ("corrupt", True), ("space", False)])
async def test_a_row_that_cannot_be_read_keeps_no_file_from_a_purge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, removed: bool
) -> None:
    def fails(_catalogue: Catalogue, _object_id: str) -> None:
        raise DiskError("read failed", errno=errno.EIO)

    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Catalogue, "get", fails)
            assert await store._remover.drop_file(store.volumes[0], REP.object_id, reason=reason) is removed
        assert file_of(store).exists() is not removed
