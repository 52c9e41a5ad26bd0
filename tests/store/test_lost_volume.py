"""A cache directory that others change beneath the running node: it is made anew, and the books stay right."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError, VolumeOffline
from cacheserver.core.piece_map import PRESENT
from cacheserver.maintenance.volume_watch import keep
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.stored_object import VaryMarker
from tests.support.flow import eventually
from tests.support.stored import PIECE, found, open_descriptors, put, put_pieces, representation, running_store, settled

REP = representation("a", 5 * PIECE)


def remove_objects(cache: Path) -> None:
    for name in (cache / "objects").glob("??/*"):
        name.unlink()


def remove_fans(cache: Path) -> None:
    for name in (cache / "objects").iterdir():
        shutil.rmtree(name)


def remove_all(cache: Path) -> None:
    for name in cache.iterdir():
        shutil.rmtree(name) if name.is_dir() else name.unlink()


def replace_catalogue(cache: Path) -> None:
    copy = cache / "copy.db"
    shutil.copy(cache / "catalogue" / "cache.db", copy)
    copy.replace(cache / "catalogue" / "cache.db")


MADE_ANEW_IN_PLACE = (remove_objects, remove_fans, lambda cache: shutil.rmtree(cache / "objects"))
LOST = (remove_all, shutil.rmtree, replace_catalogue, lambda cache: (cache / "lock").unlink())


@pytest.mark.parametrize("change", MADE_ANEW_IN_PLACE, ids=["objects", "fans", "root"])
async def test_objects_whose_files_were_removed_go_and_new_ones_are_stored(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        volume = store.volumes[0]
        kept = await put(store, REP)
        change(cache)
        made = Path((await put(store, representation("at once"))).file.path)
        assert made.parent.stat().st_mode & 0o777 == made.parent.parent.stat().st_mode & 0o777 == 0o700
        assert await store.inspect(volume) is None
        assert kept.obsolete
        assert await store.find(REP.object_id) is None
        await put(store, REP)
        assert volume.object_count == 2
        assert volume.online
    async with running_store(cache) as store:
        assert (await found(store, REP)).pieces.complete


@pytest.mark.parametrize("change", LOST, ids=["all", "whole", "catalogue", "lock"])
async def test_a_volume_that_is_not_what_was_opened_is_opened_anew(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        volume = store.volumes[0]
        await put(store, REP)
        await store.mark_vary(VaryMarker("f" * 32, ("accept",)), service="own")
        watching = asyncio.create_task(
            keep(store, volume, extent_bytes=4 * PIECE, retry_s=0.01, on_open=lambda _: None, look_every_s=0.01)
        )
        await volume.loaded.wait()
        lives = volume.lives
        change(cache)

        async def is_anew() -> bool:
            return volume.lives > lives and volume.loaded.is_set() and volume.reconciled

        await eventually(is_anew)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await put(store, representation("new"))
        assert volume.ledger.stored_bytes == sum(
            os.stat(name).st_blocks * 512 for name in (cache / "objects").glob("??/*")
        ) + 512 * isinstance(await store.find("f" * 32), VaryMarker)
        assert volume.ledger.reserved_bytes == 0
        assert volume.online


async def test_an_object_whose_file_was_replaced_by_another_goes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        volume, obj = store.volumes[0], await put(store, REP)
        other = cache / "other"
        other.write_bytes(b"of somebody else")
        other.replace(obj.file.path)
        kept = await put(store, representation("kept"))
        assert await store.inspect(volume) is None
        assert (obj.obsolete, kept.obsolete) == (True, False)
        assert await store.find(REP.object_id) is None


async def test_a_reason_is_told_once_however_often_the_volume_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        volume = store.volumes[0]
        opens, real = [], volume.open
        volume.open = lambda: (opens.append(1), real())[1]  # type: ignore[method-assign,func-returns-value]
        watching = asyncio.create_task(
            keep(store, volume, extent_bytes=4 * PIECE, retry_s=0.01, on_open=lambda _: None, look_every_s=0.01)
        )

        await settled()
        shutil.rmtree(cache)
        cache.write_text("no directory")

        async def tried_often() -> bool:
            return len(opens) > 5

        await eventually(tried_often)
        told = [record.message for record in caplog.records if record.message.startswith("volume_")]
        assert told == ["volume_lost", "volume_offline"]
        cache.unlink()

        async def is_open() -> bool:
            return volume.loaded.is_set() and volume.opened

        await eventually(is_open)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await put(store, REP)


async def test_a_directory_on_another_file_system_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        volume = store.volumes[0]
        await store.lose(volume)
        monkeypatch.setattr(volume, "_device", -1)
        with pytest.raises(VolumeOffline, match="another file system"):
            volume.open()
        assert not volume.online
        with pytest.raises(VolumeOffline):
            await store.create(REP)
        assert await store.find(REP.object_id) is None


async def test_a_call_that_began_before_the_loss_changes_nothing_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, create = threading.Event(), ObjectFile.create

    def slow(path: str, rep: object) -> ObjectFile:
        gate.wait(5)
        return create(path, rep)  # type: ignore[arg-type]

    async with running_store(tmp_path / "cache") as store:
        volume = store.volumes[0]
        monkeypatch.setattr(ObjectFile, "create", slow)
        creating = asyncio.create_task(store.create(REP))
        await settled()
        losing = asyncio.create_task(store.lose(volume))
        await settled()
        gate.set()
        with pytest.raises(DiskError):
            await creating
        await losing
        volume.open()
        volume.loaded.set()
        assert (volume.ledger.stored_bytes, volume.ledger.reserved_bytes, volume.object_count) == (0, 0, 0)


@pytest.mark.parametrize("anew", [True, False])
async def test_what_waited_its_turn_while_the_volume_was_lost_begins_no_books(tmp_path: Path, anew: bool) -> None:
    async with running_store(tmp_path / "cache") as store:
        (volume,) = store.volumes
        async with store._objects.changing.holding(REP.object_id):
            creating = asyncio.create_task(store.create(REP))
            await settled()
            await store.lose(volume)
            if anew:
                volume.open()
        with pytest.raises(VolumeOffline):
            await creating
        if not anew:
            volume.open()
        volume.loaded.set()
        await put(store, REP)
        assert volume.ledger.stored_bytes == store.peek_quietly(REP.object_id).charged_bytes  # type: ignore[union-attr]
        assert volume.ledger.reserved_bytes == 0


async def test_space_that_was_waited_for_while_the_volume_was_lost_is_not_taken(tmp_path: Path) -> None:
    async with running_store(tmp_path / "cache", capacity_bytes=20 * PIECE) as store:
        (volume,) = store.volumes
        for number in range(2):
            await put(store, representation(f"n{number}", 7 * PIECE))
        obj, loaded = await store.create(REP), volume.loaded
        loaded.clear()
        with obj.holding():
            reserving = [asyncio.create_task(store.reserve(obj, piece)) for piece in range(4)]
            await settled()
            assert not all(task.done() for task in reserving)
            await store.lose(volume)
            loaded.set()
            ends = await asyncio.gather(*reserving, return_exceptions=True)
        assert isinstance(ends[-1], VolumeOffline)
        volume.open()
        volume.loaded.set()
        assert (volume.ledger.stored_bytes, volume.ledger.reserved_bytes) == (0, 0)


async def test_a_reader_keeps_what_it_holds_when_the_volume_is_lost(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        obj = await store.create(REP)
        with obj.holding():
            await put_pieces(store, obj, [0])
            shutil.rmtree(cache)
            await store.lose(store.volumes[0])
            assert obj.obsolete
            assert (obj.pieces.state(0), len(obj.file.read_piece(0))) == (PRESENT, PIECE)
        assert obj.file.fd == -1
        store.volumes[0].open()
        store.volumes[0].loaded.set()


async def test_a_lost_volume_gives_its_descriptors_back(tmp_path: Path) -> None:
    async with running_store(tmp_path / "cache") as store:
        volume = store.volumes[0]
        await put(store, REP)
        before = open_descriptors()
        for _ in range(3):
            await store.lose(volume)
            volume.open()
            volume.loaded.set()
        assert open_descriptors() < before


async def test_a_leftover_of_a_lost_volume_does_not_hide_what_is_stored_after_it(tmp_path: Path) -> None:
    async with running_store(tmp_path / "cache") as store:
        volume = store.volumes[0]
        volume.leftovers.trying(REP.object_id)
        await store.lose(volume)
        assert len(volume.leftovers) == 0
        volume.open()
        volume.loaded.set()


async def test_an_extent_that_is_being_evicted_when_its_volume_is_lost_is_given_back_by_the_loss_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, gate, erase = threading.Event(), threading.Event(), ObjectFile.erase

    def slow(file: ObjectFile, first: int, stop: int) -> None:
        started.set()
        gate.wait(5)
        erase(file, first, stop)

    async with running_store(tmp_path / "cache") as store:
        volume, obj = store.volumes[0], await put(store, representation("large", 12 * PIECE))
        monkeypatch.setattr(ObjectFile, "erase", slow)
        evicting = asyncio.create_task(store._reclaimer._evict(volume, obj.unit(1)))
        assert await asyncio.to_thread(started.wait, 5)
        losing = asyncio.create_task(store.lose(volume))
        await settled()
        gate.set()
        await asyncio.gather(evicting, losing)
        assert obj.obsolete
        volume.open()
        volume.loaded.set()
        assert (volume.ledger.stored_bytes, volume.object_count) == (0, 0)
