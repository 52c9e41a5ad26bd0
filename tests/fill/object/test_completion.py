"""Completing an object behind the clients: all of it, once, and never in a client's way."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from cacheserver.core.errors import GenerationChanged, OriginStatus, StoreFull, UpstreamError, Withdrawn
from cacheserver.core.piece_map import ABSENT
from tests.support.content import blob
from tests.support.filling import CancelAt, Rig, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, body_of, put, put_pieces, representation, settled

BODY = blob(2, 9 * PIECE + 5)
REP = representation("a", len(BODY))
WANT = want_for()


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


def always() -> bool:
    return True


async def test_what_is_missing_is_fetched_in_spans_one_after_the_other(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.body = body_of(REP)
    async with filling(tmp_path, upstream, options=quick(span_pieces=3)) as rig:
        obj = await rig.store.create(REP)
        await put_pieces(rig.store, obj, [0, 5])
        await rig.coordinator.complete(obj, WANT, always)
        assert obj.pieces.complete
        ends = [(1, 4), (4, 5), (6, 9), (9, 10)]
        assert upstream.ranges == [f"{a * PIECE}-{min(b * PIECE, len(BODY)) - 1}" for a, b in ends]
        await rig.assert_clean()
        await rig.coordinator.complete(obj, WANT, always)
        assert len(upstream.requests) == len(ends), "a complete object asks nobody"


async def test_nothing_is_asked_after_it_is_wanted_no_more(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        await rig.coordinator.complete(obj, WANT, lambda: len(upstream.requests) < 2)
        assert obj.pieces.stored_bytes == 3 * PIECE
        await rig.assert_clean()


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_request_under_way_ends_with_its_piece_once_it_is_wanted_no_more(
    tmp_path: Path, upstream: ScriptedUpstream, ranges: bool
) -> None:
    upstream.script.extend([Turn(ignore_range=not ranges)] * 9)
    wanted = True
    async with filling(tmp_path, upstream, options=quick(span_pieces=9)) as rig:
        obj = await rig.store.create(REP)
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, lambda: wanted))
        while not obj.pieces.stored_bytes:
            await settled()
        wanted = False
        await behind
        assert obj.pieces.stored_bytes <= 3 * PIECE
        await rig.assert_clean()


async def test_a_client_is_served_while_the_completion_waits_for_a_slot(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(total=1)) as rig:
        other = await rig.store.create(representation("other", len(BODY)))
        slow = asyncio.create_task(rig.read(other, want_for("other"), 0, 10, whole=False))
        while not upstream.answers:
            await settled()
        obj = await rig.store.create(REP)
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, always))
        await settled()
        assert not obj.pieces.stored_bytes
        client = asyncio.create_task(rig.read(obj, WANT, 0, PIECE, whole=False))
        await settled()
        gate.set()
        assert await client == BODY[:PIECE]
        assert upstream.ranges[1] == f"0-{PIECE - 1}", "the client's piece comes first, and alone"
        await slow
        await behind
        assert obj.pieces.complete
        await rig.assert_clean()


async def test_it_waits_for_a_clients_flight_instead_of_asking_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(span_pieces=16)) as rig:
        obj = await rig.store.create(REP)
        client = asyncio.create_task(rig.read(obj, WANT))
        while not upstream.answers:
            await settled()
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, always))
        await settled()
        gate.set()
        assert await client == BODY
        await behind
        assert sum(answer.read_bytes for answer in upstream.answers) == len(BODY)
        await rig.assert_clean()


async def test_a_client_that_leaves_does_not_end_what_is_completed(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        client = asyncio.create_task(rig.read(obj, WANT))
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, always))
        await settled()
        client.cancel()
        await behind
        assert obj.pieces.complete
        assert sum(answer.read_bytes for answer in upstream.answers) == len(BODY)
        await rig.assert_clean()


async def test_a_source_without_ranges_is_asked_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(ignore_range=True)] * 20)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT, None)
        await rig.coordinator.complete(obj, WANT, always)
        assert obj.pieces.complete
        assert sum(answer.read_bytes for answer in upstream.answers) <= 2 * len(BODY)
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("turns", "error"),
    [([Turn(status=503)] * 9, OriginStatus), ([Turn(fields=(("ETag", '"2"'),), status=200)] * 9, UpstreamError)],
)
async def test_a_failing_source_ends_it_with_its_error(
    tmp_path: Path, upstream: ScriptedUpstream, turns: list[Turn], error: type[UpstreamError]
) -> None:
    upstream.script.extend(turns)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(error):
            await rig.coordinator.complete(obj, WANT, always)
        await rig.assert_clean()


async def test_an_object_that_is_replaced_meanwhile_ends_it(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, always))
        while not upstream.answers:
            await settled()
        await rig.store.forget(REP.object_id, reason="purged")
        gate.set()
        with pytest.raises(Withdrawn):
            await behind
        await rig.assert_clean()


async def test_what_cannot_be_put_together_is_forgotten(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    rep = representation("a", len(BODY), etag=None, combinable=False)
    async with filling(tmp_path, upstream) as rig:
        obj = await put(rig.store, rep)
        rig.store.drop_piece(obj, 3)
        with pytest.raises(GenerationChanged):
            await rig.coordinator.complete(obj, WANT, always)
        assert await rig.lookup.find(WANT) is None
        assert not upstream.requests
        await rig.assert_clean()


async def test_without_room_it_ends_with_what_is_stored(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, capacity_bytes=6 * PIECE) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(StoreFull):
            await rig.coordinator.complete(obj, WANT, always)
        assert 0 < obj.pieces.stored_bytes < len(BODY)
        await rig.assert_clean()


async def _assert_cancelled_cleanly(rig: Rig, number: int) -> bool:
    obj = await rig.store.create(REP)
    work = CancelAt(rig.coordinator.complete(obj, WANT, always), number)

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() == work.reached
    await rig.assert_clean()
    if work.reached:
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert obj.pieces.pieces_in_state(0, len(obj.pieces), ABSENT) == []
    return work.reached


async def test_cancelled_at_any_await_it_leaves_nothing_behind(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    for number in count(1):
        async with filling(tmp_path / str(number), upstream, options=quick(span_pieces=4)) as rig:
            if not await _assert_cancelled_cleanly(rig, number):
                break
    assert number > 2
