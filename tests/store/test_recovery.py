"""After a start the catalogue, the ledger and the policy agree with the files, whatever the last stop was like."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import DiskError
from cacheserver.core.piece_map import STORED
from cacheserver.store import recovery
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.recovery import recover
from cacheserver.store.store import MARKER_BYTES, Store
from cacheserver.store.stored_object import VaryMarker
from tests.support.catalogue import sql
from tests.support.stored import (
    EXTENT,
    PIECE,
    body_of,
    bytes_on_disk,
    found,
    put,
    put_pieces,
    representation,
    running_store,
    store_over,
    volume_at,
)

REPS = [representation(name) for name in "abcde"]
LARGE = representation("large", 10 * PIECE)


async def fill(path: Path, *, clean: bool) -> None:
    async with running_store(path, clean=clean) as store:
        for rep in (*REPS, LARGE):
            await put(store, rep)


async def assert_whole(store: Store, path: Path) -> None:
    """Every object is there, sound, and counted."""
    for rep in (*REPS, LARGE):
        obj = await found(store, rep)
        assert all(obj.pieces.state(piece) == STORED for piece in range(len(obj.pieces)))
        await store.check(obj, range(len(obj.pieces)))
        assert os.pread(obj.file.fd, rep.length_bytes, 0) == body_of(rep)
    volume = store.volumes[0]
    assert volume.reconciled
    assert volume.ledger.stored_bytes == bytes_on_disk(path)
    assert volume.object_count == len(REPS) + 1
    assert len(volume.policy) == len(REPS) + LARGE.length_bytes // EXTENT + 1


@pytest.mark.parametrize("clean", [True, False])
async def test_every_piece_survives_a_stop_of_any_kind(tmp_path: Path, clean: bool) -> None:
    await fill(tmp_path, clean=clean)
    async with running_store(tmp_path) as store:
        await assert_whole(store, tmp_path)


@pytest.mark.parametrize("mark", ["0", "1" + "0" * 17, "9" * 5000, f"0 {'0' * 32}:1e3"])
async def test_the_books_are_counted_from_the_rows_whatever_the_mark_of_a_clean_stop_holds(
    tmp_path: Path, mark: str
) -> None:
    await fill(tmp_path, clean=True)
    (tmp_path / "clean").write_text(mark)
    async with running_store(tmp_path) as store:
        await assert_whole(store, tmp_path)


async def test_files_are_adopted_when_the_catalogue_is_lost(tmp_path: Path) -> None:
    await fill(tmp_path, clean=True)
    shutil.rmtree(tmp_path / "catalogue")
    (tmp_path / "clean").unlink()
    async with running_store(tmp_path) as store:
        await assert_whole(store, tmp_path)
    async with running_store(tmp_path) as store:
        await assert_whole(store, tmp_path)


async def test_a_file_that_a_power_cut_brings_back_behind_a_vary_marker_is_removed(tmp_path: Path) -> None:
    rep = REPS[0]
    async with running_store(tmp_path) as store:
        obj = await put(store, rep)
        path, data = Path(obj.file.path), Path(obj.file.path).read_bytes()
        await store.mark_vary(VaryMarker(rep.object_id, ("accept",)), service="own")
    (tmp_path / "clean").unlink()
    path.write_bytes(data)
    async with running_store(tmp_path) as store:
        assert isinstance(await store.find(rep.object_id), VaryMarker)
        assert not path.exists()
        assert store.volumes[0].ledger.stored_bytes == MARKER_BYTES


async def test_files_are_adopted_when_the_database_is_damaged_after_a_clean_stop(tmp_path: Path) -> None:
    await fill(tmp_path, clean=True)
    (tmp_path / "catalogue" / "cache.db").write_bytes(b"no database" * 1000)
    async with running_store(tmp_path) as store:
        for rep in (*REPS, LARGE):
            await found(store, rep)
        assert store.volumes[0].reconciled


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM Cache WHERE key = ?", "UPDATE Cache SET value = x'00' WHERE key = ?"],
    ids=["row lost", "row damaged"],
)
async def test_an_object_without_a_usable_row_is_adopted(tmp_path: Path, statement: str) -> None:
    await fill(tmp_path, clean=False)
    sql(tmp_path / "catalogue", statement, REPS[2].object_id)
    async with running_store(tmp_path) as store:
        obj = store.peek(REPS[2].object_id)
        assert obj is not None, "recovery has found it before anybody asked"
        assert store.volumes[0].reconciled


async def test_a_row_without_a_file_is_dropped_when_it_is_looked_for(tmp_path: Path) -> None:
    await fill(tmp_path, clean=False)
    (tmp_path / "objects" / REPS[0].object_id[:2] / REPS[0].object_id).unlink()
    async with running_store(tmp_path) as store:
        assert await store.find(REPS[0].object_id) is None
        assert store.volumes[0].catalogue.get(REPS[0].object_id) is None
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)
        assert store.volumes[0].object_count == len(REPS)


async def test_stray_files_are_removed_and_objects_are_not(tmp_path: Path) -> None:
    await fill(tmp_path, clean=False)
    directory = tmp_path / "objects" / "00"
    for name in ("notes.txt", f"{REPS[0].object_id}.new", "00" * 16, ".hidden"):
        (directory / name).write_bytes(b"stray")
    (directory / "directory").mkdir()
    async with running_store(tmp_path) as store:
        assert [name.name for name in directory.iterdir() if name.is_file() and name.name[:2] != "00"] == []
        assert not (directory / ("00" * 16)).exists(), "it has an object's name, but is none"
        await assert_whole(store, tmp_path)


async def test_an_object_that_is_just_being_made_is_not_swept_away(tmp_path: Path) -> None:
    volume = volume_at(tmp_path)
    volume.open()
    store = store_over([volume])
    temporary = Path(f"{volume.path_of(REPS[0].object_id)}.0123abcd.new")
    temporary.write_bytes(b"half")
    async with store._objects.changing.holding(REPS[0].object_id):
        recovering = asyncio.create_task(recover(store, volume, extent_bytes=EXTENT))
        await asyncio.wait((recovering,), timeout=0.5)  # it waits, so that nothing tells when
        assert temporary.exists()
        assert not recovering.done()
        made = temporary.rename(temporary.with_name(REPS[0].object_id))
    await recovering
    assert made.exists()
    await store.stop(clean=True)


async def test_what_a_killed_node_left_of_an_object_goes_although_the_object_is_being_made_again(
    tmp_path: Path,
) -> None:
    volume = volume_at(tmp_path)
    volume.open()
    store = store_over([volume])
    left = Path(f"{volume.path_of(REPS[0].object_id)}.0123abcd.new")
    left.write_bytes(b"half")
    create = ObjectFile.create

    def late(path: str, rep: Representation) -> ObjectFile:
        time.sleep(0.2)  # in a thread: the walk lists the directory meanwhile
        return create(path, rep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectFile, "create", late)
        creating = asyncio.create_task(store.create(REPS[0]))
        await asyncio.wait((creating,), timeout=0.05)
        assert store.is_creating(REPS[0].object_id)
        await recover(store, volume, extent_bytes=EXTENT)
    await creating
    assert not left.exists()
    await store.stop(clean=True)


async def test_requests_are_served_before_recovery(tmp_path: Path) -> None:
    await fill(tmp_path, clean=False)
    shutil.rmtree(tmp_path / "catalogue")
    volume = volume_at(tmp_path)
    volume.open()
    store = store_over([volume])
    obj = await found(store, REPS[0])
    rep = representation("new")
    await put(store, rep)
    await recover(store, volume, extent_bytes=EXTENT)
    assert await found(store, REPS[0]) is obj
    await found(store, rep)
    assert volume.ledger.stored_bytes == bytes_on_disk(tmp_path)
    assert volume.object_count == len(REPS) + 2
    await store.stop(clean=True)


async def test_a_directory_that_cannot_be_read_leaves_the_volume_unreconciled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, clean=False)
    shutil.rmtree(tmp_path / "catalogue")
    sick = str(tmp_path / "objects" / REPS[0].object_id[:2])
    listed = recovery._listed

    def failing(directories: Sequence[str]) -> list[tuple[str, str]]:
        if sick in directories:
            raise DiskError("list", errno=5)
        return listed(directories)

    monkeypatch.setattr(recovery, "_listed", failing)
    async with running_store(tmp_path) as store:
        assert not store.volumes[0].reconciled
        await found(store, REPS[0])
    assert not (tmp_path / "clean").exists(), "nobody knows what lies there"


async def test_a_catalogue_that_cannot_be_read_to_its_end_is_made_up_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, clean=True)

    def fails(_catalogue: Catalogue, batch: int) -> Iterator[list[tuple[str, CatalogueRecord]]]:
        raise DiskError("read failed", errno=5)

    monkeypatch.setattr(Catalogue, "iterate", fails)
    async with running_store(tmp_path) as store:
        assert store.volumes[0].loaded.is_set()
        assert store.volumes[0].reconciled
        await assert_whole(store, tmp_path)


async def test_a_partial_object_keeps_exactly_its_pieces(tmp_path: Path) -> None:
    async with running_store(tmp_path, clean=False) as store:
        obj = await store.create(LARGE)
        obj.hold()
        await put_pieces(store, obj, [1, 7])
        obj.release()
    async with running_store(tmp_path) as store:
        obj = await found(store, LARGE)
        assert obj.pieces.pieces_in_state(0, 10, STORED) == [1, 7]
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_a_file_without_a_row_is_not_found_once_every_file_is_known(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        rep = representation("strange")
        await put(store, rep)
    async with running_store(tmp_path) as store:
        (volume,) = store.volumes
        volume.catalogue.delete(rep.object_id)
        await volume.catalogue.flush()
        assert volume.reconciled
        assert await store.find(rep.object_id) is None
        volume.reconciled = False
        assert await store.find(rep.object_id) is not None


async def test_what_rows_alone_tell_of_can_be_evicted_after_a_clean_stop(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        unit = (await put(store, representation("known by its row"))).unit(0)
    (tmp_path / "recency").unlink()
    async with running_store(tmp_path) as store:
        (volume,) = store.volumes
        assert unit in volume.policy
        assert await store._reclaimer.free(volume, volume.ledger.capacity_bytes)
        assert volume.ledger.stored_bytes == 0
