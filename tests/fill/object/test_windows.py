"""What readers keep wanted: where their windows begin and end, and for whom a fill waits after they have left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cacheserver.core.errors import OriginStatus, TruncatedBody
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.turns.shares import Priority
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.fill import ObjectFill
from tests.support.content import blob
from tests.support.filling import filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation, settled, take_offline

BODY = blob(23, 6 * PIECE)
REP = representation("a", len(BODY))
WANT = want_for()
FEW = {"read_ahead_pieces": 1, "span_pieces": 1, "parallel": 1, "tries": 1}


async def test_a_window_begins_with_the_first_piece_that_was_not_read_to_its_end(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(linger_s=30)) as rig:
        obj = await rig.store.create(REP)
        reader = rig.coordinator.reader(obj, WANT, 5, PIECE + 5, whole=False)
        assert (reader.window().first, reader.window().stop) == (0, 2)
        reader.close(reached=PIECE + 5)
        assert reader.window().first == 2
        for flight in list(rig.fills[0].flights):
            await rig.fills[0].cancel([flight])


async def test_no_window_reaches_beyond_the_last_piece(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(read_ahead_pieces=8)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            keep = rig.coordinator.reader(obj, WANT, 0, 1, whole=False)
            for piece in range(6):
                reader = rig.fills[0].reader(WANT, piece * PIECE, (piece + 1) * PIECE, whole=False)
                assert piece < reader.window().stop <= 6
                reader.close(reached=(piece + 1) * PIECE)
            keep.close(reached=0)
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("reached", "missing", "ailing", "waits"),
    [
        (PIECE, True, False, True),
        (PIECE - 1, True, False, False),
        (PIECE, False, False, False),
        (PIECE, True, True, False),
    ],
    ids=["served", "not served", "complete", "ailing"],
)
async def test_a_fill_waits_for_a_client_that_was_served_and_may_want_more(
    tmp_path: Path, reached: int, missing: bool, ailing: bool, waits: bool
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(linger_s=0.05)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(5 if missing else 6), BODY)
            reader = rig.coordinator.reader(obj, WANT, 0, PIECE, whole=False)
            await settled()
            if ailing:
                for _ in range(2):
                    take_offline(obj.volume)
                    rig.clock.now_s += 60
            reader.close(reached=reached)
            assert bool(rig.fills) is waits
        await rig.assert_clean()


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_reader_that_came_later_survives_the_failure_of_a_flight_that_may_be_repeated(
    tmp_path: Path, retryable: bool
) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(break_after=10, gate=gate) if retryable else Turn(status=404, head_gate=gate))
    error = TruncatedBody if retryable else OriginStatus
    async with filling(tmp_path, upstream, options=quick(**FEW)) as rig:
        obj = await rig.store.create(REP)
        first = asyncio.create_task(rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False))
        await settled()
        second = asyncio.create_task(rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False))
        await settled()
        gate.set()
        with pytest.raises(error):
            await first
        if retryable:
            assert await second == BODY[PIECE : 2 * PIECE]
        else:
            with pytest.raises(error):
                await second
        assert len(upstream.requests) == (2 if retryable else 1)
        await rig.assert_clean()


async def test_a_held_piece_is_shown_to_a_reader_that_has_waited_too_long(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(hold_timeout_s=0.01, **FEW)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            rig.coordinator._fill(obj, WANT, REP.fields, Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT))
            reader = rig.coordinator.reader(obj, WANT, 0, PIECE, whole=False)
            progress = rig.fills[0].progress
            waiting = asyncio.create_task(reader.readable(0))
            await settled()
            progress.advance(0, 100)
            assert progress.readable_until(0, PIECE) == 0
            assert await waiting == 100
            reader.close(reached=100)
            gate.set()
        await rig.assert_clean()


async def test_every_further_try_waits_twice_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream, waits, sleep = ScriptedUpstream(BODY), list[float](), asyncio.sleep
    upstream.script.extend([Turn(break_after=10)] * 3)

    async def quickly(delay_s: float) -> None:
        waits.extend([delay_s] * (delay_s > 0))
        await sleep(0)

    async with filling(tmp_path, upstream, options=quick(parallel=1, tries=4, backoff_s=0.25)) as rig:
        obj = await rig.store.create(REP)
        monkeypatch.setattr(asyncio, "sleep", quickly)
        assert await rig.read(obj, WANT, 0, PIECE, whole=False) == BODY[:PIECE]
        monkeypatch.undo()
        await rig.assert_clean()
    assert waits == [0.25, 0.5, 1.0]


async def test_what_a_client_waits_for_comes_before_what_is_read_ahead_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, start = list[tuple[int, int, object]](), ObjectFill.start

    def noting(fill: ObjectFill, first: int, stop: int, priority: Priority, opened: None = None) -> object:
        started.append((first, stop, priority))
        return start(fill, first, stop, priority, opened)

    monkeypatch.setattr(ObjectFill, "start", noting)
    options = quick(span_pieces=1, read_ahead_pieces=2, parallel=2)
    async with filling(tmp_path, ScriptedUpstream(BODY), options=options) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
    assert started[:2] == [(0, 1, Priority.DEMANDED), (1, 2, Priority.READ_AHEAD)]


async def test_a_reader_survives_the_failures_of_all_older_flights_and_not_of_its_own(tmp_path: Path) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([*(Turn(break_after=10, gate=gate) for gate in gates), Turn(), Turn(), Turn(break_after=10)])
    async with filling(tmp_path, upstream, options=quick(**{**FEW, "parallel": 3})) as rig:
        obj = await rig.store.create(REP)
        spans = [(0, PIECE), (PIECE, 2 * PIECE), (0, 3 * PIECE)]
        readers = []
        for start, stop in spans:
            readers.append(asyncio.create_task(rig.read(obj, WANT, start, stop, whole=False)))
            await settled()
        gates[0].set()
        await asyncio.wait(readers[:1])
        while obj.pieces.state(0) == ABSENT:
            await settled()
        await settled()
        gates[1].set()
        ends = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(end) for end in ends] == [TruncatedBody] * 3
        assert obj.pieces.state(1) != ABSENT
        assert len(upstream.requests) == 5, "the first and the second piece were asked for again, the third was not"
        await rig.assert_clean()
