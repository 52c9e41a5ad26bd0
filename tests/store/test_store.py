"""The store: what is written is found again, checked before use, and forgotten without harm to its readers."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from cacheserver.core.errors import DiskError, StoreFull, VolumeOffline
from cacheserver.core.http.fields import Fields
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.store import MARKER_BYTES, Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume
from tests.support.meter import CountingMeter
from tests.support.stored import (
    PIECE,
    HandClock,
    body_of,
    bytes_on_disk,
    found,
    open_descriptors,
    put,
    put_pieces,
    representation,
    running_store,
    take_offline,
)

REP = representation()


@pytest.fixture
def meter() -> CountingMeter:
    return CountingMeter()


@pytest_asyncio.fixture
async def store(tmp_path: Path, meter: CountingMeter) -> AsyncIterator[Store]:
    async with running_store(tmp_path, meter=meter) as store:
        yield store


def states(obj: StoredObject) -> list[int]:
    return [obj.pieces.state(piece) for piece in range(len(obj.pieces))]


def content(obj: StoredObject) -> bytes:
    return os.pread(obj.file.fd, obj.representation.length_bytes, 0)


async def test_what_was_stored_is_found_again_after_a_restart(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        assert states(obj) == [PRESENT] * 4
        assert await store.find(REP.object_id) is obj
        stored_bytes = store.volumes[0].ledger.stored_bytes
    async with running_store(tmp_path) as store:
        assert store.peek(REP.object_id) is None
        again = await found(store, REP)
        assert again.representation == REP
        assert states(again) == [STORED] * 4
        await store.check(again, range(4))
        assert states(again) == [PRESENT] * 4
        assert content(again) == body_of(REP)
        assert store.volumes[0].ledger.stored_bytes == stored_bytes == bytes_on_disk(tmp_path)
        assert store.volumes[0].object_count == 1


async def test_an_unknown_object_is_not_found(store: Store) -> None:
    assert await store.find(REP.object_id) is None


async def test_callers_at_once_open_a_file_once(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        assert await store.find("0" * 32) is None  # opens the connection to the catalogue
        before = open_descriptors()
        many = await asyncio.gather(*(store.find(REP.object_id) for _ in range(10)))
        assert all(obj is many[0] for obj in many)
        assert open_descriptors() == before + 1


async def test_a_damaged_piece_becomes_absent_and_is_charged_once(tmp_path: Path, meter: CountingMeter) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        path = obj.file.path
    with open(path, "r+b") as raw:
        raw.seek(PIECE + 7)
        raw.write(b"\0\0\0\0")
    async with running_store(tmp_path, meter=meter) as store:
        obj = await found(store, REP)
        before = store.volumes[0].ledger.stored_bytes
        await store.check(obj, range(4))
        assert states(obj) == [PRESENT, ABSENT, PRESENT, PRESENT]
        assert store.volumes[0].ledger.stored_bytes == before, "its blocks are still there"
        assert meter.counts["verified", "at_rest", "bad"] == 1
        assert meter.counts["verified", "at_rest", "ok"] == 3
        await put_pieces(store, obj, [1])
        assert content(obj) == body_of(REP)
        assert store.volumes[0].ledger.stored_bytes == before


async def test_a_piece_is_hashed_once_for_all_who_wait(store: Store, meter: CountingMeter) -> None:
    obj = await put(store, REP)
    obj.pieces.mark(0, STORED)
    await asyncio.gather(*(store.check(obj, [0]) for _ in range(5)))
    assert meter.counts["verified", "at_rest", "ok"] == 1


async def test_a_refresh_survives_a_restart(tmp_path: Path) -> None:
    newer = replace(REP, response_time_s=REP.response_time_s + 60)
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        await store.refresh(obj, newer)
        assert obj.representation == newer
    async with running_store(tmp_path) as store:
        assert (await found(store, REP)).representation == newer


@pytest.mark.parametrize("fault", ["too large", "disk"])
async def test_an_object_whose_header_cannot_be_rewritten_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    obj = await put(store, REP)
    grown = REP.refreshed(Fields((("X", "y" * 9000),)), request_time_s=1.0, response_time_s=2.0)

    def fails(_self: ObjectFile, _rep: object) -> bool:
        raise DiskError("write header", errno=5)

    if fault == "disk":
        monkeypatch.setattr(ObjectFile, "rewrite_header", fails)
    await store.refresh(obj, grown)
    assert obj.obsolete
    assert await store.find(REP.object_id) is None


async def test_a_forgotten_object_stays_readable_to_its_holder_only(store: Store, tmp_path: Path) -> None:
    obj = await put(store, REP)
    obj.hold()
    await store.forget(REP.object_id, reason="purged")
    assert await store.find(REP.object_id) is None
    assert store.volumes[0].ledger.stored_bytes == 0 == bytes_on_disk(tmp_path)
    assert not obj.usable
    assert content(obj) == body_of(REP)
    obj.release()
    assert obj.file.fd < 0


async def test_a_superseded_generation_stays_readable_to_its_holder(store: Store, tmp_path: Path) -> None:
    old = await put(store, REP)
    old.hold()
    new = await put(store, replace(REP, length_bytes=2 * PIECE))
    assert (old.obsolete, new.obsolete) == (True, False)
    assert content(old) == body_of(REP)
    assert await store.find(REP.object_id) is new
    old.release()
    assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path) == new.charged_bytes
    assert store.volumes[0].object_count == 1


async def test_a_piece_that_is_committed_after_its_object_was_forgotten_is_charged_to_nobody(store: Store) -> None:
    obj = await store.create(REP)
    obj.hold()
    await store.forget(REP.object_id, reason="purged")
    await put_pieces(store, obj, [0])
    assert store.volumes[0].ledger.stored_bytes == 0
    obj.release()


async def test_the_open_object_limit_closes_unheld_objects_and_never_a_held_one(tmp_path: Path) -> None:
    async with running_store(tmp_path, open_objects=4) as store:
        reps = [representation(f"o{number}") for number in range(12)]
        held = await put(store, reps[0])
        held.hold()
        for rep in reps[1:]:
            await put(store, rep)
            store.write_rows()
        closed = [rep for rep in reps if store.peek_quietly(rep.object_id) is None]
        assert len(reps) - len(closed) <= 4 + 1
        assert store.peek_quietly(reps[0].object_id) is held
        assert held.file.fd >= 0
        for rep in closed:
            obj = await found(store, rep)
            assert obj.usable, "what was just found is not closed again at once"
            assert obj.pieces.complete
        held.release()
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_the_smallest_limit_never_closes_what_it_has_just_opened(tmp_path: Path) -> None:
    async with running_store(tmp_path, open_objects=16) as store:
        for number in range(40):
            obj = await put(store, representation(f"o{number}"))
            assert obj.usable
            store.write_rows()


async def test_a_vary_marker_survives_a_restart_and_is_charged_once(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
        await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
        assert await store.find(REP.object_id) == VaryMarker(REP.object_id, ("accept",))
        assert store.volumes[0].ledger.stored_bytes == MARKER_BYTES
    async with running_store(tmp_path) as store:
        await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
        assert store.volumes[0].ledger.stored_bytes == MARKER_BYTES
        await store.mark_vary(VaryMarker(REP.object_id, ("accept", "origin")), service="own")
        assert await store.find(REP.object_id) == VaryMarker(REP.object_id, ("accept", "origin"))
        assert store.volumes[0].ledger.stored_bytes == MARKER_BYTES
        await store.forget(REP.object_id, reason="purged")
        assert await store.find(REP.object_id) is None
        assert (store.volumes[0].ledger.stored_bytes, store.volumes[0].object_count) == (0, 0)


async def test_a_marker_takes_the_place_of_an_object_that_did_not_vary(store: Store, tmp_path: Path) -> None:
    obj = await put(store, REP)
    await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
    assert obj.obsolete
    assert bytes_on_disk(tmp_path) == 0
    assert store.volumes[0].ledger.stored_bytes == MARKER_BYTES
    store.write_rows()
    assert await store.find(REP.object_id) == VaryMarker(REP.object_id, ("accept",))


async def test_an_object_takes_the_place_of_a_marker(store: Store, tmp_path: Path) -> None:
    await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")
    obj = await put(store, REP)
    assert await store.find(REP.object_id) is obj
    assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


@pytest.mark.parametrize("damage", ["footer", "gone", "other object"])
async def test_a_file_that_is_not_its_object_is_dropped_with_its_row(tmp_path: Path, damage: str) -> None:
    async with running_store(tmp_path) as store:
        path = (await put(store, REP)).file.path
        other = (await put(store, representation("b"))).file.path
    if damage == "footer":
        os.truncate(path, os.path.getsize(path) - 1)
    elif damage == "gone":
        os.unlink(path)
    else:
        os.replace(other, path)
    before = open_descriptors()
    async with running_store(tmp_path) as store:
        assert await store.find(REP.object_id) is None
        assert not os.path.exists(path)
        assert await store.find(representation("b").object_id) is None or damage != "other object"
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)
        assert store.volumes[0].catalogue.get(REP.object_id) is None
    assert open_descriptors() == before


async def test_listeners_hear_of_every_object_that_goes(store: Store) -> None:
    gone: list[StoredObject] = []
    store.notifications.withdrawn.append(gone.append)
    obj = await put(store, REP)
    assert gone == []
    await store.forget(REP.object_id, reason="purged")
    assert gone == [obj]


async def test_nothing_is_created_where_no_volume_can_be_written(store: Store) -> None:
    store.volumes[0].failed(DiskError("full", errno=28))
    with pytest.raises(VolumeOffline):
        await store.create(REP)


def make_ailing(volume: Volume, clock: HandClock) -> None:
    """Fail until the volume is offline, and again when it is tried."""
    for _ in range(2):
        assert not volume.ailing
        take_offline(volume)
        clock.now_s += 60


async def test_an_object_that_lacks_pieces_should_move_from_a_volume_that_fails_again(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "one", tmp_path / "two", clock=clock) as store:
        whole, part = await _on_one_volume(store, 2)
        (other,) = [volume for volume in store.volumes if volume is not part.volume]
        await put_pieces(store, whole, range(len(whole.pieces)))
        await put_pieces(store, part, [1])
        assert not store.should_move(part)
        make_ailing(part.volume, clock)
        assert store.should_move(part)
        assert not store.should_move(whole), "what is in memory needs no drive"
        part.hold()
        assert not store.should_move(part), "whoever fills it goes on"
        part.release()
        other.failed(DiskError("full", errno=errno.ENOSPC))
        assert not store.should_move(part), "no volume would take it"
        clock.now_s += 60
        part.volume.succeeded()
        assert not store.should_move(part), "its volume is back"


async def test_of_two_generations_on_two_volumes_none_is_left_behind(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "one", tmp_path / "two", clock=clock) as store:
        (old,) = await _on_one_volume(store, 1)
        name, first = old.object_id, old.volume
        shutil.copy(old.file.path, tmp_path / "older")
        make_ailing(first, clock)
        first.failed(DiskError("read failed", errno=errno.EIO))
        moved = await put(store, old.representation)
        assert moved.volume is not first
        shutil.copy(tmp_path / "older", old.file.path)  # what could not be removed from it
        first.catalogue.put(name, old.row())
        first.ledger.correct(old.charged_bytes)
        first.object_count += 1
        clock.now_s += 60
        assert await store.find(name) is moved
        await store.forget(name, reason="purged")
        assert await store.find(name) is None
        assert [(volume.object_count, volume.ledger.stored_bytes) for volume in store.volumes] == [(0, 0)] * 2
        assert not Path(old.file.path).exists()


async def test_a_file_that_opens_at_the_second_try_is_charged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
        stored_bytes = store.volumes[0].ledger.stored_bytes
    real, failures = ObjectFile.open, [DiskError("read failed", errno=errno.EIO)]

    def fails_once(path: str) -> ObjectFile | None:
        if failures:
            raise failures.pop()
        return real(path)

    async with running_store(tmp_path) as store:
        volume = store.volumes[0]
        volume.reconciled = False
        monkeypatch.setattr(ObjectFile, "open", fails_once)
        assert await store.find(REP.object_id) is None
        await found(store, REP)
        assert volume.ledger.stored_bytes == stored_bytes
        assert volume.object_count == 1


async def test_a_row_comes_before_a_file_that_no_row_speaks_of(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "one", tmp_path / "two", clock=clock) as store:
        (old,) = await _on_one_volume(store, 1)
        first, path = old.volume, Path(old.file.path)
        shutil.copy(path, tmp_path / "older")
        make_ailing(first, clock)
        first.failed(DiskError("read failed", errno=errno.EIO))
        moved = await put(store, replace(old.representation, response_time_s=1.0))
        newer = moved.volume
    shutil.copy(tmp_path / "older", path)  # what could not be removed from it
    async with running_store(tmp_path / "one", tmp_path / "two") as store:
        for volume in store.volumes:
            volume.reconciled = False
        assert (await found(store, old.representation)).volume.path == newer.path


async def _on_one_volume(store: Store, count: int) -> list[StoredObject]:
    """New objects that all lie on the volume that the first was put on."""
    objects = [await store.create(representation(f"o{number}")) for number in range(20)]
    chosen = [obj for obj in objects if obj.volume is objects[0].volume][:count]
    for obj in objects:
        if obj not in chosen:
            await store.forget(obj.object_id, reason="purged")
    return chosen


async def test_an_object_larger_than_the_volume_does_not_fit(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=5 * PIECE) as store:
        obj = await store.create(representation(length_bytes=100 * PIECE))
        obj.hold()
        with pytest.raises(StoreFull):
            await put_pieces(store, obj, range(100))
        assert store.volumes[0].ledger.reserved_bytes == 0
        assert store.volumes[0].ledger.free_bytes >= 0
        obj.release()


async def test_no_descriptor_is_left_after_a_stop(tmp_path: Path) -> None:
    before = open_descriptors()
    async with running_store(tmp_path) as store:
        for number in range(5):
            await put(store, representation(f"o{number}"))
        await store.forget(representation("o1").object_id, reason="purged")
    assert open_descriptors() == before
