"""The scrubber finds what a drive has spoilt, at the pace it promises, and stands aside for clients."""

from __future__ import annotations

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import DiskError
from cacheserver.core.piece_map import ABSENT, PRESENT
from cacheserver.core.units import Size
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.scrub_position import FILE_NAME, Position, load_position, save_position
from cacheserver.store.checking import Verdict
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.store import Store
from tests.maintenance.scene import flip, representations, scrubbing, stored
from tests.support.meter import CountingMeter
from tests.support.stored import (
    PIECE,
    HandClock,
    body_of,
    bytes_on_disk,
    found,
    put_pieces,
    representation,
    running_store,
)

DAY_S = 86_400.0


# -- finding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True], ids=["pieces in use", "pieces of an earlier run"])
async def test_a_thousand_flipped_bits_are_found_in_one_scrub_and_none_can_be_served(
    tmp_path: Path, restarted: bool
) -> None:
    reps, meter, lots = representations(40, pieces=50), CountingMeter(), random.Random(1)
    places = [(number, piece) for number in range(40) for piece in range(50)]
    flipped = set(lots.sample(places, 1000))
    async with running_store(tmp_path) as store:
        await stored(store, reps)
        if not restarted:
            await flip_and_scrub(store, reps, flipped, lots)
    if not restarted:
        return
    async with running_store(tmp_path, meter=meter) as store:
        await flip_and_scrub(store, reps, flipped, lots)
        assert meter.counts["verified", "at_rest", "bad"] == 1000
        assert meter.counts["verified", "at_rest", "ok"] == 1000


async def flip_and_scrub(
    store: Store, reps: list[Representation], flipped: set[tuple[int, int]], lots: random.Random
) -> None:
    for number, piece in flipped:
        await flip(store, reps[number], piece, bit=lots.randrange(8 * PIECE))
    async with scrubbing(store) as scene:
        now = await scene.scrubbed_now()
    assert (now["bad"], now["unreadable"], now["pieces_checked"], now["pieces_total"]) == (1000, 0, 2000, 2000)
    for number, rep in enumerate(reps):
        obj = await found(store, rep)
        states = [obj.pieces.state(piece) for piece in range(50)]
        assert states == [ABSENT if (number, piece) in flipped else PRESENT for piece in range(50)]
        for piece in range(50):
            start, stop = obj.pieces.bounds(piece)
            if states[piece] == PRESENT:
                assert os.pread(obj.file.fd, stop - start, start) == body_of(rep)[start:stop]


async def test_a_bad_piece_that_was_written_again_is_good_at_the_next_scrub(tmp_path: Path) -> None:
    (rep,) = representations(1)
    async with running_store(tmp_path) as store, scrubbing(store) as scene:
        await stored(store, [rep])
        await flip(store, rep, 3)
        assert (await scene.scrubbed_now())["bad"] == 1
        obj = await found(store, rep)
        assert not obj.pieces.complete
        await put_pieces(store, obj, [3])
        now = await scene.scrubbed_now()
        assert (now["bad"], now["pieces_checked"]) == (0, 8)


async def test_what_was_stored_a_moment_ago_is_scrubbed_too(tmp_path: Path) -> None:
    reps = representations(3)
    async with running_store(tmp_path) as store, scrubbing(store) as scene:
        await stored(store, reps[:2])
        obj = await store.create(reps[2])
        await put_pieces(store, obj, range(8))
        await flip(store, reps[2], 0)
        now = await scene.scrubbed_now()
    assert (now["bad"], now["pieces_checked"]) == (1, 24)


async def test_all_volumes_are_scrubbed(tmp_path: Path) -> None:
    reps = representations(20)
    async with running_store(tmp_path / "a", tmp_path / "b") as store, scrubbing(store) as scene:
        await stored(store, reps)
        assert all(volume.object_count for volume in store.volumes)
        for rep in reps:
            await flip(store, rep, 7)
        now = await scene.scrubbed_now()
    assert (now["bad"], now["pieces_checked"]) == (20, 160)


async def test_an_unreadable_piece_goes_out_of_service_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rep,) = representations(1)
    intact = ObjectFile.check_piece

    def failing(file: ObjectFile, piece: int) -> None:
        if piece == 2:
            raise DiskError("read: Input/output error", errno=5)
        intact(file, piece)

    async with running_store(tmp_path) as store, scrubbing(store) as scene:
        await stored(store, [rep])
        monkeypatch.setattr(ObjectFile, "check_piece", failing)
        now = await scene.scrubbed_now()
        assert (now["bad"], now["unreadable"], now["pieces_checked"]) == (0, 1, 8)
        assert (await found(store, rep)).pieces.state(2) == ABSENT
        assert store.volumes[0].error_count == 1
    assert not (tmp_path / "quarantine").exists()


async def test_a_piece_that_went_while_it_was_read_is_no_bad_piece(tmp_path: Path) -> None:
    (rep,), meter = representations(1), CountingMeter()
    async with running_store(tmp_path, meter=meter) as store:
        await stored(store, [rep])
        obj = await found(store, rep)
        await flip(store, rep, 1)
        go_on = Event()
        with ThreadPoolExecutor(1) as executor:
            executor.submit(go_on.wait, 10)
            check = asyncio.create_task(store.checker.recheck(obj, 1, executor))
            await asyncio.sleep(0)
            store.drop_piece(obj, 1)
            go_on.set()
            assert await check is Verdict.GONE
        assert not any(key[0] == "verified" for key in meter.counts)
        assert store.volumes[0].quarantine.count == 0


async def test_an_offline_volume_fails_the_scrub_instead_of_passing_as_clean(tmp_path: Path) -> None:
    reps, clock = representations(2), HandClock()
    async with running_store(tmp_path, clock=clock) as store, scrubbing(store) as scene:
        await stored(store, reps)
        for _ in range(3):
            store.volumes[0].failed(DiskError("read", errno=5))
        now = await scene.scrubbed_now()
    assert now["failed"]
    assert not scene.scrubber.completed_s(store.volumes[0])


# -- quarantine -----------------------------------------------------------------------------------------------------


async def test_bad_pieces_are_copied_to_a_bounded_private_quarantine_that_is_no_cache_content(tmp_path: Path) -> None:
    reps = representations(10)
    async with running_store(tmp_path) as store, scrubbing(store) as scene:
        await stored(store, reps)
        for rep in reps:
            for piece in range(7):
                await flip(store, rep, piece)
        assert (await scene.scrubbed_now())["bad"] == 70
        volume = store.volumes[0]
        copies = list((tmp_path / "quarantine").iterdir())
        assert (len(copies), volume.quarantine.count) == (64, 64)
        for copy in copies:
            object_id, _, number = copy.name.partition("-")
            rep = next(rep for rep in reps if rep.object_id == object_id)
            right = body_of(rep)[int(number) * PIECE : (int(number) + 1) * PIECE]
            spoilt = copy.read_bytes()
            assert (spoilt[0] ^ right[0], spoilt[1:]) == (1, right[1:])
            assert copy.stat().st_mode & 0o777 == 0o600
        assert volume.ledger.stored_bytes == bytes_on_disk(tmp_path), "their blocks are still there"


async def test_a_bad_piece_met_before_a_delivery_is_copied_too(tmp_path: Path) -> None:
    (rep,) = representations(1)
    async with running_store(tmp_path) as store:
        await stored(store, [rep])
    async with running_store(tmp_path) as store:
        await flip(store, rep, 5)
        obj = await found(store, rep)
        await store.check(obj, range(8))
        assert obj.pieces.pieces_in_state(0, 8, ABSENT) == [5]
        assert [path.name for path in (tmp_path / "quarantine").iterdir()] == [f"{rep.object_id}-5"]


# -- pace -----------------------------------------------------------------------------------------------------------


async def test_everything_is_read_once_in_the_days_that_were_set_and_evenly(tmp_path: Path) -> None:
    reps, clock = representations(2, pieces=80), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        began_s = clock.now_s
        async with scrubbing(store, clock, ScrubOptions(days=0.5)) as scene:
            await scene.until_complete()
            took_s = clock.now_s - began_s
            reads = scene.reads[:160]
    assert len(reads) == 160
    assert 0.93 * DAY_S / 2 < took_s < 1.02 * DAY_S / 2
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(reads)]
    assert max(gaps) < 2 * took_s / 160


async def test_the_next_even_pass_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    reps, clock = representations(1, pieces=32), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        began_s = clock.now_s
        async with scrubbing(store, clock, ScrubOptions(days=0.1)) as scene:
            await scene.until_read(3 * 32)
    assert 0.9 * 3 * DAY_S / 10 < scene.reads[95][0] - began_s < 1.05 * 3 * DAY_S / 10


async def test_time_that_clients_took_is_made_up_for(tmp_path: Path) -> None:
    reps, clock = representations(4), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        began_s = clock.now_s
        async with scrubbing(store, clock, ScrubOptions(days=0.1)) as scene:
            scene.fills = 99
            await scene.until(lambda: clock.now_s >= began_s + DAY_S / 20)
            assert scene.reads == []
            scene.fills = 0
            await scene.until_complete()
    assert clock.now_s - began_s < 1.05 * DAY_S / 10
    assert len(scene.reads) >= 32


async def test_the_highest_rate_holds_when_asked_for_everything_now(tmp_path: Path) -> None:
    reps, clock = representations(40, pieces=50), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        async with scrubbing(store, clock, ScrubOptions(enabled=False, max_rate=Size("64KiB"))) as scene:
            began_s = clock.now_s
            now = await scene.scrubbed_now()
            took_s = clock.now_s - began_s
    assert now["bytes_checked"] / took_s == pytest.approx(65_536, rel=0.02)


@pytest.mark.parametrize("asked", [False, True], ids=["even pass", "asked for"])
async def test_nothing_is_read_while_clients_are_busy(tmp_path: Path, asked: bool) -> None:
    reps, clock = representations(4), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        async with scrubbing(store, clock, ScrubOptions(enabled=not asked, days=0.01)) as scene:
            scene.fills = 17
            if asked:
                scene.scrubber.start_now()
            await scene.for_rests(500)
            assert scene.reads == []
            assert scene.scrubber.progress()["now" if asked else "paced"]["paused"]
            scene.fills = 16
            await scene.until_read(32)
            assert not scene.scrubber.progress()["now" if asked else "paced"]["paused"]


async def test_a_scrub_that_is_asked_for_does_not_wait_for_the_even_one(tmp_path: Path) -> None:
    reps = representations(4)
    async with running_store(tmp_path) as store:
        await stored(store, reps)
        async with scrubbing(store, HandClock(), ScrubOptions(days=365)) as scene:
            await scene.until_read(1)
            now = await scene.scrubbed_now()
            assert now["pieces_checked"] == 32
            assert scene.scrubber.number == 1


async def test_asking_twice_is_one_scrub(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await stored(store, representations(1))
        async with scrubbing(store) as scene:
            assert scene.scrubber.start_now()
            assert not scene.scrubber.start_now()
            assert scene.scrubber.number == 1


async def test_no_object_is_held_between_two_reads_nor_kept_from_eviction(tmp_path: Path) -> None:
    reps, clock = representations(1), HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        async with scrubbing(store, clock, ScrubOptions(days=30)) as scene:
            await scene.until_read(2)
            assert not (await found(store, reps[0])).held
            await store.forget(reps[0].object_id, reason="purged")
            await scene.for_rests(100)
    assert len(scene.reads) == 2


async def test_objects_that_clients_use_stay_open_while_cold_ones_are_read(tmp_path: Path) -> None:
    reps = representations(100, pieces=1)
    async with running_store(tmp_path, open_objects=16) as store:
        await stored(store, reps)
        hot = reps[:8]
        for rep in hot:
            await found(store, rep)
        async with scrubbing(store) as scene:
            assert (await scene.scrubbed_now())["pieces_checked"] == 100
        assert all(store.peek_quietly(rep.object_id) is not None for rep in hot)


# -- position -------------------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_where_the_last_run_was(tmp_path: Path) -> None:
    reps, clock = representations(10), HandClock()
    options = ScrubOptions(days=0.1)
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, reps)
        began_s = clock.now_s
        async with scrubbing(store, clock, options) as first:
            await first.until_read(35)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    async with running_store(tmp_path, clock=clock) as store, scrubbing(store, clock, options) as second:
        await second.until_complete()
    assert (len(first.reads), len(second.reads)) == (35, 45)
    assert clock.now_s - began_s < 1.05 * DAY_S / 10


async def test_a_pass_that_was_asked_for_leaves_the_even_one_at_its_beginning(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await stored(store, representations(2))
        async with scrubbing(store) as scene:
            await scene.scrubbed_now()
    kept = load_position(str(tmp_path))
    assert (kept.object_id, kept.next_piece, kept.done_bytes) == ("", 0, 0)
    assert kept.completed_s > 0


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"object_id":"../x"}', '{"next_piece":-1}', '{"started_s":1e99}', "[]", "\xff", '{"x":1}', "0" * 9000],
)
def test_a_damaged_position_is_the_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
    assert load_position(str(tmp_path)) == Position()


def test_a_position_is_read_back_and_follows_no_link(tmp_path: Path) -> None:
    place = Position(object_id="0a" * 16, next_piece=7, done_bytes=1, started_s=2.0, completed_s=3.5)
    save_position(str(tmp_path), place)
    assert load_position(str(tmp_path)) == place
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE_NAME).symlink_to(tmp_path / FILE_NAME)
    assert load_position(str(tmp_path / "b")) == Position()


async def test_switching_it_off_stops_it_and_on_again_goes_on(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, [*representations(4), representation("z", 0)])
        async with scrubbing(store, clock, ScrubOptions(days=0.1)) as scene:
            await scene.until_read(5)
            scene.scrubber.use(ScrubOptions(enabled=False))
            await scene.for_rests(50)
            assert len(scene.reads) == 5
            scene.scrubber.use(ScrubOptions(days=0.1))
            await scene.until_complete()
            assert len(scene.reads) == 32


@pytest.mark.parametrize("asked", [False, True])
async def test_nothing_is_scrubbed_before_every_object_is_known(tmp_path: Path, asked: bool) -> None:
    async with running_store(tmp_path) as store:
        await stored(store, representations(1))
        (volume,) = store.volumes
        volume.loaded.clear()
        async with scrubbing(store, options=ScrubOptions(enabled=not asked)) as scene:
            if asked:
                scene.scrubber.start_now()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await scene.until_read(1)
            volume.loaded.set()
            await scene.until(lambda: bool(scene.reads))
