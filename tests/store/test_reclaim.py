"""Giving space back: whole objects, extents, files that are not open; nothing that is in use, nothing twice."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import StoreFull
from cacheserver.core.piece_map import ABSENT
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.recovery import recover
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.support.meter import CountingMeter
from tests.support.stored import (
    EXTENT,
    NOW_S,
    PIECE,
    body_of,
    bytes_on_disk,
    found,
    open_descriptors,
    put,
    put_pieces,
    representation,
    running_store,
    settled,
    store_over,
    volume_at,
)

CAPACITY = 40 * PIECE


async def test_eviction_makes_room_and_spares_what_is_in_use(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        held = await put(store, representation("held"))
        held.hold()
        for number in range(30):
            await put(store, representation(f"n{number}"))
        assert not held.obsolete
        assert held.pieces.complete
        held.release()
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path) <= CAPACITY
        assert store.volumes[0].ledger.stored_bytes > CAPACITY // 2, "no more was evicted than was needed"


async def test_a_large_object_loses_extents_and_keeps_the_rest(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        large = representation("large", 20 * PIECE)
        await put(store, large)
        for number in range(5):
            await put(store, representation(f"n{number}"))
        obj = await found(store, large)
        kept = [piece for piece in range(20) if obj.pieces.state(piece) != ABSENT]
        assert 0 < len(kept) < 20
        assert all(len({piece in kept for piece in range(first, first + 4)}) == 1 for first in range(0, 20, 4))
        for piece in kept:
            start, stop = obj.pieces.bounds(piece)
            assert os.pread(obj.file.fd, PIECE, start) == body_of(large)[start:stop]
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_extents_of_an_object_that_is_not_open_are_evicted_too(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        await put(store, representation("large", 20 * PIECE))
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        for number in range(5):
            await put(store, representation(f"n{number}"))
        obj = await found(store, representation("large", 20 * PIECE))
        assert not obj.pieces.complete
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)
        for extent in range(obj.extent_count):
            first, stop = obj.extent_pieces_span(extent)
            stored = stop - first - len(obj.pieces.pieces_in_state(first, stop, ABSENT))
            assert (obj.unit(extent) in store.volumes[0].policy) == (stored > 0)


async def test_an_object_is_not_lent_out_while_it_loses_an_extent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        large = representation("large", 20 * PIECE)
        obj = await put(store, large)
        run, lent = store._objects.run, []

        async def watching(volume: object, call: object, *args: object) -> object:
            if getattr(call, "__name__", "") == "erase":
                lent.append(store.peek(large.object_id))
                lent.append(obj if obj.usable else None)
            return await run(volume, call, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._objects, "run", watching)
        for number in range(5):
            await put(store, representation(f"n{number}"))
        assert lent
        assert all(each is None for each in lent), "a fill would write under the hole that is being punched"
        assert store.peek(large.object_id) is obj


async def test_an_object_forgotten_while_it_loses_an_extent_is_given_back_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        large = representation("large", 20 * PIECE)
        await put(store, large)
        run, purges = store._objects.run, list[asyncio.Task[bool]]()

        async def forgetting(volume: object, call: object, *args: object) -> object:
            if getattr(call, "__name__", "") == "erase":
                purges.append(asyncio.create_task(store.forget(large.object_id, reason="purged")))
                await asyncio.sleep(0)  # the purge waits for the eviction by now
            return await run(volume, call, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._objects, "run", forgetting)
        for number in range(8):
            await put(store, representation(f"n{number}"))
        assert purges
        await asyncio.gather(*purges)
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_a_file_that_is_being_opened_is_not_evicted(tmp_path: Path) -> None:
    rep = representation("late")
    async with running_store(tmp_path) as store:
        await put(store, rep)
    async with running_store(tmp_path) as store:
        finding = asyncio.ensure_future(store.find(rep.object_id))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert rep.object_id in store._objects.changing
        assert not await store._reclaimer.free(store.volumes[0], store.volumes[0].ledger.free_bytes + 1)
        assert isinstance(await finding, StoredObject)


async def test_a_file_that_is_being_opened_is_purged_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rep = representation("late")
    async with running_store(tmp_path) as store:
        await put(store, rep)
        before = open_descriptors()
    async with running_store(tmp_path) as store:
        gate, really = threading.Event(), ObjectFile.open

        def slow(path: str) -> ObjectFile | None:
            opened = really(path)
            gate.wait(10)
            return opened

        monkeypatch.setattr(ObjectFile, "open", slow)
        finding = asyncio.ensure_future(store.find(rep.object_id))
        await settled()
        forgetting = asyncio.ensure_future(store.forget(rep.object_id, reason="purged"))
        await asyncio.wait((forgetting,), timeout=0.1)
        gate.set()
        await asyncio.gather(finding, forgetting)
        assert await store.find(rep.object_id) is None
        assert store.volumes[0].ledger.stored_bytes == 0
        assert list((tmp_path / "objects").glob("??/*")) == []
    assert open_descriptors() < before


async def test_an_extent_held_between_choice_and_eviction_is_spared_and_can_be_evicted_later(tmp_path: Path) -> None:
    large = representation("large", 20 * PIECE)
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        obj, volume, reclaimer = await put(store, large), store.volumes[0], store._reclaimer
        chosen = list(volume.policy.victims(PIECE, skip=reclaimer._in_use))
        assert chosen
        obj.hold()
        for unit in chosen:
            await reclaimer._evict(volume, unit)
        assert obj.pieces.complete
        assert all(obj.unit(extent) in volume.policy for extent in range(obj.extent_count))
        obj.release()
        assert await reclaimer.free(volume, volume.ledger.free_bytes + PIECE)
        assert not obj.pieces.complete


@pytest.mark.parametrize("is_open", [True, False])
async def test_an_object_pinned_between_choice_and_eviction_is_spared(tmp_path: Path, is_open: bool) -> None:
    rep = representation("pinned late")
    async with running_store(tmp_path) as store:
        await put(store, rep)
    async with running_store(tmp_path) as store:
        volume, reclaimer = store.volumes[0], store._reclaimer
        if is_open:
            await found(store, rep)
        (unit,) = volume.policy.victims(PIECE, skip=reclaimer._in_use)
        volume.policy.pin(bytes.fromhex(rep.object_id))
        await reclaimer._evict(volume, unit)
        assert (await found(store, rep)).pieces.complete
        volume.policy.unpin(bytes.fromhex(rep.object_id))
        assert unit in volume.policy, "it can be evicted once it is not pinned any more"


async def test_eviction_waits_until_every_object_is_known(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, representation())
    volume = volume_at(tmp_path)
    volume.open()
    store = store_over([volume])
    try:
        freeing = asyncio.create_task(store._reclaimer.free(volume, volume.ledger.free_bytes + 1))
        await settled()
        assert not freeing.done()
        await recover(store, volume, extent_bytes=EXTENT)
        assert await freeing
    finally:
        await store.stop(clean=True)


async def test_a_full_drive_sheds_nothing_until_every_object_is_known(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        for number in range(3):
            await put(store, representation(f"old{number}"))
    volume = volume_at(tmp_path)
    volume.open()
    store = store_over([volume])
    try:
        new = await put(store, representation("new"))
        store.notifications.drive_full(volume)
        await store._reclaimer.shedding.settled(volume)
        assert not new.obsolete, "what is known first is what came last"
        await recover(store, volume, extent_bytes=EXTENT)
        store.notifications.drive_full(volume)
        await store._reclaimer.shedding.settled(volume)
        assert volume.ledger.stored_bytes == 0, "the least that is shed is more than all of it"
    finally:
        await store.stop(clean=True)


async def test_an_evicted_extent_gives_back_the_blocks_of_torn_pieces_too(tmp_path: Path) -> None:
    large = representation("large", 20 * PIECE)
    async with running_store(tmp_path) as store:
        obj, volume, reclaimer = await store.create(large), store.volumes[0], store._reclaimer
        with obj.holding():
            await put_pieces(store, obj, [0, 4, 5, 8])
        store.drop_piece(obj, 5)
        await reclaimer._evict(volume, obj.unit(1))
        assert (obj.torn, obj.kept_digests, obj.obsolete) == (set(), set(), False)
        assert volume.ledger.stored_bytes == obj.charged_bytes == bytes_on_disk(tmp_path)
        assert [obj.pieces.state(piece) != ABSENT for piece in (0, 4, 5, 8)] == [True, False, False, True]


@pytest.mark.parametrize("use", ["held", "changing"])
async def test_what_is_in_use_is_not_chosen(tmp_path: Path, use: str) -> None:
    async with running_store(tmp_path) as store:
        obj, policy, in_use = await put(store, representation()), store.volumes[0].policy, store._reclaimer._in_use
        with obj.holding() if use == "held" else nullcontext():
            async with store._objects.changing.holding(obj.object_id) if use == "changing" else nullcontext():
                assert policy.victims(1, skip=in_use) == []
        assert policy.victims(1, skip=in_use) == [obj.unit(0)]


@pytest.mark.parametrize("pieces", [2 * EXTENT // PIECE, 5 * EXTENT // PIECE])
@pytest.mark.parametrize("is_open", [True, False])
async def test_the_chosen_extent_goes_and_the_others_stay(tmp_path: Path, pieces: int, is_open: bool) -> None:
    large = representation("large", pieces * PIECE)
    async with running_store(tmp_path) as store:
        unit = (await put(store, large)).unit(1)
    async with running_store(tmp_path) as store:
        if is_open:
            await found(store, large)
        await store._reclaimer._evict(store.volumes[0], unit)
        obj = await found(store, large)
        gone = range(*obj.extent_pieces_span(1))
        assert obj.pieces.pieces_in_state(0, pieces, ABSENT) == list(gone)
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_a_chosen_unit_whose_object_changes_meanwhile_is_chosen_again_later(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, volume, reclaimer = await put(store, representation()), store.volumes[0], store._reclaimer
        (unit,) = volume.policy.victims(1, skip=reclaimer._in_use)
        async with store._objects.changing.holding(obj.object_id):
            await reclaimer._evict(volume, unit)
        assert not obj.obsolete
        assert unit in volume.policy


async def test_the_age_of_what_was_evicted_for_space_is_told_and_no_purge_counts(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        volume = store.volumes[0]
        obj = await put(store, representation("purged"))
        await store.forget(obj.object_id, reason="purged")
        assert volume.eviction_age_s == 0
        obj = await put(store, representation("evicted"))
        await store._reclaimer._evict(volume, obj.unit(0))
        assert volume.eviction_age_s == volume._clock.wall_s() - obj.representation.response_time_s > 0


async def test_a_use_of_several_extents_is_a_use_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_store(tmp_path) as store:
        obj, touched = await put(store, representation("large", 5 * EXTENT)), list[bytes]()
        obj._next_use_s.clear()
        monkeypatch.setattr(store.volumes[0].policy, "touch", touched.append)
        store.touch(obj, EXTENT // PIECE + 1, 3 * EXTENT // PIECE + 1)
        assert touched == [obj.unit(1), obj.unit(2), obj.unit(3)]


async def test_nothing_is_evicted_where_there_is_just_enough_space(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, volume = await put(store, representation()), store.volumes[0]
        assert await store._reclaimer.free(volume, volume.ledger.free_bytes)
        assert not obj.obsolete


async def test_an_object_without_a_piece_left_goes_as_a_whole(tmp_path: Path) -> None:
    meter = CountingMeter()
    async with running_store(tmp_path, meter=meter) as store:
        obj, volume = await put(store, representation("large", 3 * EXTENT)), store.volumes[0]
        for extent in range(3):
            await store._reclaimer._evict(volume, obj.unit(extent))
        assert obj.obsolete
        assert (volume.ledger.stored_bytes, volume.object_count, len(volume.policy)) == (0, 0, 0)
        assert meter.freed_bytes == {"space": 3 * EXTENT + obj.file.layout.footer_bytes}


async def test_an_older_generation_on_another_volume_is_evicted_by_its_own_unit(tmp_path: Path) -> None:
    rep = representation()
    for name in ("a", "b"):
        async with running_store(tmp_path / name) as store:
            await put(store, rep)
    async with running_store(tmp_path / "a", tmp_path / "b") as store:
        obj = await found(store, rep)
        (older,) = (volume for volume in store.volumes if volume is not obj.volume)
        os.utime(older.path_of(rep.object_id), (NOW_S, NOW_S))
        await store._reclaimer._evict(older, obj.unit(0))
        assert (older.ledger.stored_bytes, older.object_count, older.eviction_age_s > 0) == (0, 0, True)
        assert not Path(older.path_of(rep.object_id)).exists()
        assert await found(store, rep) is obj


async def test_an_open_marker_that_is_evicted_is_charged_no_more(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        (volume,) = store.volumes
        await store.mark_vary(VaryMarker("f" * 32, ("accept",)), service="own")
        assert store.peek("f" * 32) is not None
        assert await store._reclaimer.free(volume, CAPACITY)
        assert (volume.ledger.stored_bytes, volume.object_count, store.peek("f" * 32)) == (0, 0, None)


async def test_a_full_drive_sheds_after_an_eviction_that_is_under_way(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, volume, reclaimer = await put(store, representation()), store.volumes[0], store._reclaimer
        async with reclaimer._locks[volume]:
            store.notifications.drive_full(volume)
            await settled()
            assert not obj.obsolete
        await reclaimer.shedding.settled(volume)
        assert obj.obsolete


async def test_an_extent_is_at_least_one_piece(tmp_path: Path) -> None:
    large = replace(representation("large", 3 * 8 * EXTENT), piece_size_bytes=8 * EXTENT)
    async with running_store(tmp_path) as store:
        obj = await put(store, large)
        assert (obj.extent_pieces, obj.extent_count) == (1, 3)
        await store._reclaimer._evict(obj.volume, obj.unit(1))
        assert obj.pieces.pieces_in_state(0, 3, ABSENT) == [1]


async def test_the_age_of_an_object_that_is_not_open_is_that_of_its_file(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        unit = (await put(store, representation())).unit(0)
    async with running_store(tmp_path) as store:
        (volume,) = store.volumes
        os.utime(volume.path_of(representation().object_id), (NOW_S, NOW_S))
        await store._reclaimer._evict(volume, unit)
        assert volume.eviction_age_s == volume._clock.wall_s() - NOW_S > 0


async def test_nothing_is_evicted_for_what_would_not_fit_into_the_empty_volume(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        obj, volume = await put(store, representation()), store.volumes[0]
        with pytest.raises(StoreFull):
            await store._reserve(volume, CAPACITY + 1)
        assert not obj.obsolete
        with await store._reserve(volume, CAPACITY):
            assert obj.obsolete


async def test_two_that_need_the_same_space_at_once_evict_it_once(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY) as store:
        large, volume = await put(store, representation("large", 5 * EXTENT)), store.volumes[0]
        small = [await put(store, representation(name)) for name in "abc"]
        wanted = volume.ledger.free_bytes + 1
        assert await asyncio.gather(*(store._reclaimer.free(volume, wanted) for _ in range(3))) == [True] * 3
        lost = len(large.pieces.pieces_in_state(0, 20, ABSENT)) / 4
        assert lost + sum(obj.obsolete for obj in small) == 1
