"""One upstream request and the object that it fills: resumed, given up, cut short, cancelled at every await."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import (
    BadAnswer,
    ConnectFailed,
    DiskError,
    GenerationChanged,
    OriginStatus,
    StoreError,
    StoreFull,
    TruncatedBody,
    UpstreamTimeout,
    Withdrawn,
)
from cacheserver.core.piece_map import PRESENT
from cacheserver.core.turns import feed
from cacheserver.fill import slots
from cacheserver.fill.object import flight
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.store.object.file import ObjectFile
from tests.support.content import blob
from tests.support.filling import CancelAt, filling, quick, want_for
from tests.support.flow import eventually
from tests.support.scripted import CHUNK, ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk, representation, settled

BODY = blob(1, 5 * PIECE + 100)
REP = representation("a", len(BODY))
WANT = want_for()


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def test_a_body_arrives_whole_and_every_piece_is_recorded(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        assert obj.pieces.pieces_in_state(0, 6, PRESENT) == list(range(6))
        await rig.assert_clean()
        assert rig.meter.received_bytes == len(BODY), "no byte was fetched twice"
        assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_a_broken_body_is_resumed_from_the_last_good_byte(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(break_after=PIECE + 1000), Turn(break_after=500)])
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=8, read_ahead_pieces=8)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        last = len(BODY) - 1
        assert upstream.ranges == [f"0-{last}", f"{PIECE + 1000}-{last}", f"{PIECE + 1500}-{last}"]
        assert all(request.fields.value("If-Range") == '"1"' for request in upstream.requests)
        assert rig.meter.received_bytes == len(BODY)
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("turn", "error"),
    [
        (Turn(refuse=ConnectFailed("no")), ConnectFailed),
        (Turn(break_after=0), TruncatedBody),
        (Turn(break_after=700, failure=UpstreamTimeout("silent")), UpstreamTimeout),
        (Turn(status=503), OriginStatus),
    ],
)
async def test_a_source_that_fails_at_every_try_is_told_to_the_waiter(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn, error: type[Exception]
) -> None:
    upstream.script.extend([turn] * 3)
    async with filling(tmp_path, upstream, options=quick(parallel=1, tries=3)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(error):
            await rig.read(obj, WANT)
        assert len(upstream.requests) == 3
        await rig.assert_clean()
        assert await rig.read(obj, WANT) == BODY, "the next reader starts again"
        await rig.assert_clean()


async def test_progress_resets_the_tries(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(break_after=PIECE + 10)] * 4)
    async with filling(
        tmp_path, upstream, options=quick(parallel=1, span_pieces=8, read_ahead_pieces=8, tries=2)
    ) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        assert len(upstream.requests) == 5


async def test_what_came_of_a_piece_whose_flight_has_failed_is_not_asked_for_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(break_after=PIECE + 1000))
    async with filling(tmp_path, upstream, options=quick(linger_s=0.05, parallel=1, span_pieces=8, tries=1)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT)
        assert await rig.read(obj, WANT) == BODY
        assert upstream.ranges[1] is not None
        assert upstream.ranges[1].startswith(f"{PIECE + 1000}-")
        assert rig.meter.received_bytes == len(BODY)
        await rig.assert_clean()


async def test_a_begun_piece_that_nobody_comes_back_for_is_forgotten(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(break_after=1000))
    async with filling(tmp_path, upstream, options=quick(linger_s=0.001, parallel=1, tries=1)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()


async def test_bytes_that_came_make_the_next_try_a_first_one(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "_GAIN_BYTES", 500)
    upstream.script.extend([Turn(break_after=500)] * 5)
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=8, tries=2)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        assert len(upstream.requests) >= 6
        await rig.assert_clean()


async def test_a_piece_that_comes_too_slowly_for_nobody_is_given_up(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "LEFT_S", -1.0)
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(parallel=1, tries=1)) as rig:
        obj = await rig.store.create(REP)
        reader = rig.coordinator.reader(obj, WANT, 0, 1, whole=False)
        waiting = asyncio.create_task(reader.readable(0))
        await settled()
        waiting.cancel()
        reader.close(reached=0)
        gate.set()
        await rig.assert_clean()
        assert obj.pieces.stored_bytes == 0


async def test_a_reader_that_gets_too_little_is_told_before_its_client_gives_up(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WINDOW_S", 0.02)
    upstream.script.append(Turn(gate=asyncio.Event()))
    async with filling(tmp_path, upstream, options=quick(parallel=1, tries=1)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(UpstreamTimeout):
            await rig.read(obj, WANT)
        await rig.fills[0].cancel(list(rig.fills[0].flights))
        await rig.assert_clean()


async def test_a_final_refusal_is_not_tried_again(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(status=403)] * 2)
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(OriginStatus):
            await rig.read(obj, WANT)
        assert [bool(asked) for asked in upstream.ranges] == [True, False], "the Range may be what was refused"
        await rig.assert_clean()


async def test_a_source_that_ignores_ranges_is_asked_once_for_the_rest(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(ignore_range=True)] * 9)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT, 3 * PIECE) == BODY[3 * PIECE :]
        await rig.assert_clean()
        assert len(upstream.requests) <= 2, "one whole body at a time, from the first missing piece on"
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()


async def test_a_source_that_sends_more_than_it_announced_is_at_fault(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = upstream._answer

    def longer(request: Any, turn: Turn) -> Any:
        made = answer(request, turn)
        made._body = made._body[:-100] + bytes(1000)
        return made

    monkeypatch.setattr(upstream, "_answer", longer)
    upstream.receives = False  # no more is received than was announced
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=8, read_ahead_pieces=8)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(BadAnswer):
            await rig.read(obj, WANT)
        assert obj.pieces.pieces_in_state(0, 6, PRESENT) == [0, 1, 2, 3], "what came before is kept"
        await rig.assert_clean()


async def test_an_object_that_cannot_be_joined_is_not_resumed_but_forgotten(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY, etag=None, fields=(("Cache-Control", "max-age=60"),))
    upstream.script.extend([Turn(break_after=CHUNK), Turn(break_after=CHUNK)])
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert not obj.representation.combinable
        with pytest.raises((TruncatedBody, GenerationChanged)):
            await rig.read(obj, WANT)
        await rig.idle()
        assert obj.obsolete

        async def nothing_left() -> bool:
            return bytes_on_disk(tmp_path) == 0

        await eventually(nothing_left)
        await rig.assert_clean()


async def test_a_new_generation_at_the_source_wakes_every_waiter(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.extend([Turn(break_after=700, gate=gate)] * 3)
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        readers = [asyncio.create_task(rig.read(obj, WANT, piece * PIECE)) for piece in (0, 1, 4)]
        await settled()
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        gate.set()
        for result in await asyncio.gather(*readers, return_exceptions=True):
            assert isinstance(result, GenerationChanged)
        assert obj.obsolete
        await rig.assert_clean()


async def test_a_purge_ends_a_fill_and_its_waiters_hear_of_it(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.extend([Turn(gate=gate), Turn(gate=gate)])
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        reader = asyncio.create_task(rig.read(obj, WANT))
        await settled()
        await rig.store.forget(REP.object_id, reason="purged")
        gate.set()
        with pytest.raises(Withdrawn):
            await reader
        await rig.assert_clean()
        assert rig.store.volumes[0].ledger.stored_bytes == 0 == bytes_on_disk(tmp_path)


async def test_a_full_store_is_told_as_a_store_error(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, capacity_bytes=3 * PIECE, options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(StoreFull):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert rig.store.volumes[0].ledger.free_bytes >= 0


@pytest.mark.parametrize("call", ["write_at", "record_piece"])
async def test_a_failing_disk_is_told_as_a_store_error(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*_args: object) -> None:
        raise DiskError("write", errno=5)

    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        monkeypatch.setattr(ObjectFile, call, fails)
        with pytest.raises(StoreError):
            await rig.read(obj, WANT)
        await rig.assert_clean()


async def test_a_flight_cancelled_at_any_await_leaves_nothing_and_its_reader_is_served_by_the_next(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fly = ObjectFill._fly
    for number in count(1):
        upstream.script.append(Turn(break_after=2000))
        cancelled: list[CancelAt] = []

        async def cut(fill: ObjectFill, *args: Any, number: int = number, seen: list[CancelAt] = cancelled) -> None:
            if seen:
                await fly(fill, *args)
                return
            seen.append(CancelAt(fly(fill, *args), number))
            await seen[0]

        monkeypatch.setattr(ObjectFill, "_fly", cut)
        async with filling(tmp_path / str(number), upstream, options=quick(parallel=1, span_pieces=3)) as rig:
            obj = await rig.store.create(REP)
            assert await rig.read(obj, WANT) == BODY
            await rig.assert_clean()
            assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path / str(number)), number
        upstream.script.clear()
        if not cancelled[0].reached:
            assert number > 20, "the flight has many places to wait"
            return


async def test_a_source_that_ignores_ranges_is_asked_for_one_body_at_a_time(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script.extend([Turn(ignore_range=True, gate=gate)] * 9)
    async with filling(tmp_path, upstream, options=quick(parallel=4, span_pieces=1)) as rig:
        obj, readers = await rig.store.create(REP), list[asyncio.Task[bytes]]()
        for piece in (4, 0, 2):
            span = piece * PIECE, (piece + 1) * PIECE
            readers.append(asyncio.create_task(rig.read(obj, WANT, *span, whole=False)))
            while not upstream.answers:
                await settled()
            await settled()
        assert len(upstream.requests) == 1
        gate.set()
        bodies = [BODY[piece * PIECE : (piece + 1) * PIECE] for piece in (4, 0, 2)]
        assert await asyncio.gather(*readers) == bodies
        await rig.assert_clean()
