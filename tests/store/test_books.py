"""The books equal the blocks: the ledger counts what the files take, whatever was begun, found bad or copied."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError, StoreFull, TooLarge, VolumeOffline
from cacheserver.core.piece_map import ABSENT
from cacheserver.store.object import file as object_file
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.layout import MOST_EXTENTS, MOST_PIECES, extent_bytes_of
from cacheserver.store.recovery import audit
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from tests.support.meter import CountingMeter
from tests.support.stored import EXTENT, PIECE, body_of, found, put, put_pieces, representation, running_store

LARGE = representation("large", 10 * PIECE + 100)


def blocks(directory: Path) -> int:
    """Bytes that the object files take on the disk."""
    return sum(os.stat(name).st_blocks * 512 for name in (directory / "objects").glob("??/*"))


def books(store: Store) -> int:
    return store.volumes[0].ledger.stored_bytes


async def begin(store: Store, obj: StoredObject, piece: int) -> None:
    """Write half a piece, and leave it as a flight does that ends there."""
    start, stop = obj.pieces.bounds(piece)
    with await store.reserve(obj, piece) as reservation:
        await store.write(obj, start, body_of(obj.representation)[start : (start + stop) // 2], hashlib.sha256())
        store.leave_torn(obj, piece, reservation)


def no_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot give back what lies inside a file."""

    def refused(*_args: object) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(object_file._libc, "fallocate", refused)


async def test_a_file_of_many_extents_is_charged_its_map_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        store.write_rows()
        before, taken = books(store), obj.file.taken_bytes()
        monkeypatch.setattr(ObjectFile, "taken_bytes", lambda _file: taken + 4096)
        with obj.holding():
            store.settle(obj)
            store.write_rows()
            assert books(store) == before, "what is being written now is reserved, and not charged yet"
        store.settle(obj)
        store.write_rows()
        assert books(store) == obj.charged_bytes == before + 4096
        row = store.volumes[0].catalogue.get(obj.object_id)
        assert row is not None
        assert row.stored_bytes == before + 4096


async def test_a_small_object_is_charged_the_blocks_that_it_takes(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        for number in range(20):
            await put(store, representation(str(number), 900))
        assert books(store) == blocks(tmp_path)


async def test_a_piece_that_was_begun_is_charged_until_it_is_there_or_gone(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await store.create(LARGE)
        with obj.holding():
            await put_pieces(store, obj, [0])
            before = books(store)
            await begin(store, obj, 5)
            await begin(store, obj, 5)
            assert books(store) == before + PIECE >= blocks(tmp_path)
            await put_pieces(store, obj, [5])
            assert (books(store), obj.torn) == (before + PIECE, set())
            assert store.volumes[0].ledger.reserved_bytes == 0
        await store.forget(obj.object_id, reason="purged")
        assert (books(store), blocks(tmp_path)) == (0, 0)


async def test_a_piece_that_was_found_bad_is_charged_once_when_it_is_fetched_again(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        before = books(store)
        with obj.holding():
            store.drop_piece(obj, 3)
            assert books(store) == before
            await put_pieces(store, obj, [3])
        assert books(store) == before == blocks(tmp_path)
        assert obj.kept_digests == set()


async def test_a_piece_that_contradicts_its_manifest_gives_its_blocks_back(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        before = books(store)
        await store.erase(obj, 3)
        assert (obj.pieces.state(3), obj.kept_digests) == (ABSENT, set()), "its record is gone too"
        assert books(store) == before - PIECE == blocks(tmp_path)


async def test_it_stays_charged_where_the_file_system_cannot_make_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_holes(monkeypatch)
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        before = books(store)
        await store.erase(obj, 3)
        assert (obj.pieces.state(3), obj.file.digest_of(3), obj.kept_digests) == (ABSENT, None, set())
        assert books(store) == before == blocks(tmp_path)


async def test_whole_objects_are_evicted_where_the_file_system_cannot_make_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_holes(monkeypatch)
    capacity = 64 * PIECE
    async with running_store(tmp_path, capacity_bytes=capacity) as store:
        for number in range(12):
            await put(store, representation(str(number), 11 * PIECE))
            assert blocks(tmp_path) <= capacity
            assert books(store) == blocks(tmp_path)
        assert store.volumes[0].online


async def test_a_copy_without_holes_gets_its_holes_back_when_it_is_opened(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sparse = representation("sparse", 40 * PIECE)
    async with running_store(cache) as store:
        obj = await store.create(sparse)
        with obj.holding():
            await put_pieces(store, obj, [0, 20])
        before = books(store)
    name = next((cache / "objects").glob("??/*"))
    body = name.read_bytes()
    name.write_bytes(body)
    assert blocks(cache) > before + 30 * PIECE
    async with running_store(cache) as store:
        await found(store, sparse)
        assert books(store) == before == blocks(cache)
    shutil.rmtree(cache)


async def test_what_cannot_be_given_back_is_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = representation("sparse", 40 * PIECE)
    async with running_store(tmp_path) as store:
        obj = await store.create(sparse)
        with obj.holding():
            await put_pieces(store, obj, [0])
    name = next((tmp_path / "objects").glob("??/*"))
    name.write_bytes(name.read_bytes())
    no_holes(monkeypatch)
    async with running_store(tmp_path) as store:
        await found(store, sparse)
        assert books(store) == blocks(tmp_path) > 40 * PIECE


async def test_the_start_finds_what_takes_more_than_its_row_says_and_rows_without_a_file(tmp_path: Path) -> None:
    copied, gone, kept = (representation(name, 40 * PIECE) for name in ("copied", "gone", "kept"))
    async with running_store(tmp_path) as store:
        for rep in (copied, gone, kept):
            obj = await store.create(rep)
            with obj.holding():
                await put_pieces(store, obj, [0])
        before = books(store)
    name = tmp_path / "objects" / copied.object_id[:2] / copied.object_id
    name.write_bytes(name.read_bytes())
    (tmp_path / "objects" / gone.object_id[:2] / gone.object_id).unlink()
    async with running_store(tmp_path) as store:
        await audit(store, store.volumes[0])
        assert books(store) == before * 2 // 3 == blocks(tmp_path)
        assert store.volumes[0].object_count == 2
        assert store.peek_quietly(kept.object_id) is None, "what is as its row says is not opened"


async def test_an_audit_of_a_volume_that_is_lost_ends(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, LARGE)
        volume = store.volumes[0]
        await store.lose(volume)
        await audit(store, volume)
        assert (books(store), volume.object_count) == (0, 0), "nothing was found in what is not open"
        volume.open()
        volume.loaded.set()


@pytest.mark.parametrize("length", [MOST_PIECES * PIECE + 1, 17 << 40, (1 << 63) - 1])
async def test_an_object_of_too_many_pieces_is_refused_before_anything_is_evicted(tmp_path: Path, length: int) -> None:
    async with running_store(tmp_path, capacity_bytes=64 * PIECE) as store:
        kept = await put(store, representation("kept", PIECE))
        with pytest.raises(TooLarge):
            await store.create(replace(representation("huge"), length_bytes=length))
        assert await store.find(kept.object_id) is kept
        assert len(list((tmp_path / "objects").glob("??/*"))) == 1


async def test_a_file_larger_than_the_file_system_allows_costs_only_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_fd: int, _size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    async with running_store(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(os, "ftruncate", refused)
            for number in range(10):
                with pytest.raises(DiskError):
                    await store.create(representation(str(number)))
        volume = store.volumes[0]
        assert (volume.online, volume.error_count, blocks(tmp_path)) == (True, 0, 0)
        await put(store, representation("after"))


@pytest.mark.parametrize("extents", [1, 2, MOST_EXTENTS - 1, MOST_EXTENTS, MOST_EXTENTS + 1, 5 * MOST_EXTENTS + 3])
def test_no_object_has_more_extents_than_two_bytes_can_number(extents: int) -> None:
    length = extents * EXTENT - 1
    size = extent_bytes_of(length, EXTENT)
    assert size % EXTENT == 0
    assert -(-length // size) <= MOST_EXTENTS
    assert size == EXTENT or -(-length // (size - EXTENT)) > MOST_EXTENTS, "no larger than it must be"


async def test_an_object_of_very_many_extents_lives_and_goes_like_any_other(tmp_path: Path) -> None:
    rep = representation("wide", (MOST_EXTENTS + 100) * EXTENT)
    last = -(-rep.length_bytes // PIECE) - 1
    async with running_store(tmp_path, capacity_bytes=1 << 28) as store:
        obj = await store.create(rep)
        with obj.holding():
            start, stop = obj.pieces.bounds(last)
            for piece in (0, last):
                with await store.reserve(obj, piece) as reservation:
                    data = bytes(stop - start)
                    digest = hashlib.sha256()
                    await store.write(obj, obj.pieces.bounds(piece)[0], data, digest)
                    await store.commit(obj, piece, digest.digest(), reservation)
        assert obj.extent_count <= MOST_EXTENTS
    async with running_store(tmp_path, capacity_bytes=1 << 28) as store:
        obj = await found(store, rep)
        assert await store.forget(obj.object_id, reason="purged")
        assert (books(store), blocks(tmp_path)) == (0, 0)


async def test_a_piece_that_is_erased_twice_is_given_back_once_and_not_after_its_object(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        before = books(store)
        for _ in range(2):
            await store.erase(obj, 3)
        assert (books(store), obj.torn) == (before - PIECE, set())
        with obj.holding():
            await store.forget(obj.object_id, reason="purged")
            other = await put(store, representation("other"))
            await store.erase(obj, 4)
            assert books(store) == other.charged_bytes


async def test_a_bad_piece_of_an_object_that_is_gone_brings_no_row_back(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        with obj.holding():
            await store.forget(obj.object_id, reason="purged")
            store.drop_piece(obj, 3)
            assert obj.pieces.state(3) == ABSENT
            assert obj not in store._objects.rows


async def test_an_object_is_held_while_the_digests_of_its_whole_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        obj, held = await put(store, LARGE), list[bool]()
        run = store._objects.run

        async def watching(volume: object, call: object, *args: object) -> object:
            held.append(obj.held)
            return await run(volume, call, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._objects, "run", watching)
        await store.whole_digests(obj, ["sha256"])
        assert held == [True]


@pytest.mark.parametrize("reason", ["purged", "superseded"])
async def test_what_a_removed_object_takes_is_not_free_before_its_last_reader_has_left(
    tmp_path: Path, reason: str
) -> None:
    async with running_store(tmp_path, capacity_bytes=22 * PIECE) as store:
        ledger, obj = store.volumes[0].ledger, await put(store, LARGE)
        free_bytes = ledger.free_bytes
        with obj.holding():
            await store.forget(LARGE.object_id, reason=reason)
            assert (ledger.stored_bytes, ledger.leaving_bytes, ledger.free_bytes) == (0, obj.charged_bytes, free_bytes)
            other = await put(store, representation("other", 5 * PIECE))
            with pytest.raises(StoreFull):
                await put(store, LARGE)
            assert other.obsolete
        assert (ledger.leaving_bytes, ledger.free_bytes + ledger.stored_bytes) == (0, ledger.capacity_bytes)
        await put(store, LARGE)


async def test_what_goes_because_no_hole_can_be_made_has_gone_for_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_holes(monkeypatch)
    meter = CountingMeter()
    async with running_store(tmp_path, meter=meter) as store:
        obj, volume = await put(store, LARGE), store.volumes[0]
        await store._reclaimer._evict(volume, obj.unit(1))
        assert obj.obsolete
        assert [key for key in meter.counts if key[0] == "evicted"] == [("evicted", "space")]
        assert volume.eviction_age_s > 0


async def test_a_file_of_which_some_is_not_on_disk_yet_is_charged_no_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, LARGE)
        store.write_rows()
        before = books(store)
        monkeypatch.setattr(ObjectFile, "taken_bytes", lambda _file: before - 4096)
        store.settle(obj)
        store.write_rows()
        assert books(store) == obj.charged_bytes == before


async def test_no_room_is_promised_on_a_drive_that_takes_no_writes(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await store.create(LARGE)
        store.volumes[0].failed(DiskError("write failed", errno=errno.ENOSPC))
        with pytest.raises(VolumeOffline):
            await store.reserve(obj, 0)
        assert store.volumes[0].ledger.reserved_bytes == 0
