"""Readers of one object: what is fetched for them, what goes on after them, what a cancelled one leaves."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from cacheserver.core.errors import GenerationChanged, UpstreamTimeout, Withdrawn
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.fill.metadata import NOTHING
from cacheserver.fill.outcome import Stored
from tests.support.content import blob
from tests.support.filling import CancelAt, Rig, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk, found, put, put_pieces, representation, running_store, settled

BODY = blob(2, 40 * PIECE)
REP = representation("a", len(BODY))
WANT = want_for()


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def test_one_piece_is_fetched_for_one_byte(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT, 5 * PIECE + 7, 5 * PIECE + 9, whole=False) == BODY[5 * PIECE + 7 :][:2]
        await rig.assert_clean()
        assert upstream.ranges == [f"{5 * PIECE}-{6 * PIECE - 1}"]


async def test_no_byte_is_fetched_twice_for_many_readers(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        starts = [0, 0, 3 * PIECE, 17 * PIECE + 5, 39 * PIECE]
        bodies = await asyncio.gather(*(rig.read(obj, WANT, start) for start in starts))
        assert bodies == [BODY[start:] for start in starts]
        await rig.assert_clean()
        assert rig.meter.received_bytes == len(BODY)
        assert rig.meter.counts[("collapsed",)] > 0


async def test_read_ahead_doubles_for_a_client_that_reads_in_sequence(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, options=quick(read_ahead_pieces=8, span_pieces=8, parallel=4)) as rig:
        obj = await rig.store.create(REP)
        rig.coordinator.reader(obj, WANT, 39 * PIECE, 40 * PIECE, whole=False)  # keeps the fill
        windows = []
        for piece in range(6):
            reader = rig.fills[0].reader(WANT, piece * PIECE, (piece + 1) * PIECE, whole=False)
            windows.append(reader.window().stop - piece)
            reader.close(reached=(piece + 1) * PIECE)
        assert windows == [1, 3, 5, 8, 8, 8]
        far = rig.fills[0].reader(WANT, 20 * PIECE, 21 * PIECE, whole=False)
        assert far.window().stop == 21, "a jump is no sequence"


async def test_a_fill_nobody_wants_ends_with_the_piece_in_hand(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(span_pieces=8, read_ahead_pieces=8, parallel=1)) as rig:
        obj = await rig.store.create(REP)
        reader = asyncio.create_task(rig.read(obj, WANT))
        await settled()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        gate.set()
        await rig.assert_clean()
        assert obj.pieces.pieces_in_state(0, 40, PRESENT) == [0], "I7: no less, and no more"


async def test_a_fill_may_be_kept_to_the_end_of_its_request(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    options = quick(span_pieces=8, read_ahead_pieces=8, parallel=1, keep_until="object")
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await rig.store.create(REP)
        reader = asyncio.create_task(rig.read(obj, WANT))
        await settled()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        gate.set()
        await rig.assert_clean()
        assert obj.pieces.pieces_in_state(0, 40, PRESENT) == list(range(8))


async def test_read_ahead_goes_on_for_a_client_between_two_requests(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    options = quick(linger_s=0.05, read_ahead_pieces=4, span_pieces=1, parallel=6)
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await rig.store.create(REP)
        rig.measure_fast_line()
        await rig.read(obj, WANT, 0, PIECE, whole=False)
        upstream.script.extend([Turn(), *[Turn(gate=gate)] * 3])
        await rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False)
        assert rig.fills, "it is expected back"
        assert upstream.ranges[2:] == [f"{2 * PIECE}-{3 * PIECE - 1}", f"{3 * PIECE}-{4 * PIECE - 1}"]
        gate.set()
        await rig.assert_clean()
        assert obj.pieces.state(2) == PRESENT


async def test_a_stored_piece_is_checked_and_a_bad_one_fetched_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with running_store(tmp_path) as store:
        obj = await store.create(REP)
        await put_pieces(store, obj, [0, 1])
        path = obj.file.path
    with open(path, "r+b") as raw:
        raw.seek(PIECE)
        raw.write(b"bad")
    own = ScriptedUpstream(_stored_body())
    async with filling(tmp_path, own) as rig:
        obj = await found(rig.store, REP)
        assert obj.pieces.pieces_in_state(0, 40, STORED) == [0, 1]
        assert await rig.read(obj, WANT, 0, 3 * PIECE, whole=False) == _stored_body()[: 3 * PIECE]
        assert own.ranges[0] == f"{2 * PIECE}-{3 * PIECE - 1}" or own.ranges[0].startswith(f"{PIECE}-")  # type: ignore[union-attr]
        await rig.assert_clean()


def _stored_body() -> bytes:
    return blob(int(REP.object_id[:8], 16), REP.length_bytes)


async def test_a_silent_source_is_a_timeout_for_the_reader_and_not_for_the_fill(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    options = quick(first_byte_s=0.02, hold_timeout_s=0.01, parallel=1, keep_until="object")
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(UpstreamTimeout):
            await rig.read(obj, WANT)
        gate.set()
        await rig.assert_clean()
        assert obj.pieces.state(0) == PRESENT


async def test_an_incomplete_object_that_cannot_be_joined_is_forgotten_when_it_is_read(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(representation("a", len(BODY), combinable=False))
        with pytest.raises(GenerationChanged):
            await rig.read(obj, WANT)
        assert await rig.store.find(REP.object_id) is None, "or it would stand in the way for ever"
        await rig.assert_clean()


async def test_a_reader_of_an_object_that_is_gone_is_told_so(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        obj.hold()
        await rig.store.forget(REP.object_id, reason="purged")
        with pytest.raises(Withdrawn):
            await rig.read(obj, WANT)
        obj.release()
        await rig.assert_clean()
        assert upstream.requests == []


async def test_a_held_object_survives_eviction_while_it_fills(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, capacity_bytes=60 * PIECE) as rig:
        obj = await rig.store.create(REP)
        reader = asyncio.create_task(rig.read(obj, WANT))
        for number in range(20):
            await put(rig.store, representation(f"n{number}"))
        assert await reader == BODY
        await rig.assert_clean()
        assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def _assert_reader_leaves_nothing(rig: Rig, number: int) -> bool:
    obj = await rig.store.create(REP)
    await put_pieces(rig.store, obj, [1])
    obj.pieces.mark(1, STORED)
    work = CancelAt(rig.read(obj, WANT, 10, 3 * PIECE, whole=False), number)

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() == work.reached
    await rig.assert_clean()
    assert obj.pieces.pieces_in_state(0, 40, ABSENT) != []
    return work.reached


async def test_a_reader_cancelled_at_any_await_leaves_nothing_behind(tmp_path: Path) -> None:
    for number in count(1):
        own = ScriptedUpstream(_stored_body())
        async with filling(tmp_path / str(number), own, options=quick(span_pieces=1)) as rig:
            if not await _assert_reader_leaves_nothing(rig, number):
                assert number > 4, "the reader has several places to wait"
                return


async def test_a_stop_ends_every_flight_and_gives_everything_back(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.extend([Turn(gate=gate)] * 4)
    async with filling(tmp_path, upstream, options=quick(keep_until="object")) as rig:
        obj = await rig.opened(WANT)
        await settled()
        assert rig.coordinator.fills_in_flight == 1
        await rig.coordinator.stop()
        assert (rig.fills, obj.held) == ([], False)
        await rig.assert_clean()


async def test_a_flight_that_is_stopped_before_its_first_step_gives_its_answer_back(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        opened = await rig.asker.ask_span(WANT, REP, 0, PIECE)
        await rig.coordinator.begin(Stored(obj, opened, NOTHING), WANT, 0)
        await rig.coordinator.stop()
        assert (rig.fills, obj.held) == ([], False)
        await rig.assert_clean()


async def test_a_request_that_waits_for_a_slot_is_not_counted_as_running(tmp_path: Path) -> None:
    gate, upstream = asyncio.Event(), ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(total=1, span_pieces=1, parallel=4)) as rig:
        obj = await rig.store.create(representation("a", len(BODY)))
        reading = asyncio.create_task(rig.read(obj, WANT))
        while not upstream.answers:
            await settled()
        assert rig.coordinator.fills_in_flight > 1
        assert rig.meter.fills_running == 1
        gate.set()
        assert await reading == BODY
        await rig.assert_clean()
        assert rig.meter.fills_running == 0
