"""A completion waits for what is on its way already instead of asking for it a second time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cacheserver.core.errors import GenerationChanged
from cacheserver.fill.outcome import Stored
from cacheserver.fill.slots import Errand
from tests.support.content import blob
from tests.support.filling import filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation, settled

BODY = blob(24, 6 * PIECE)
REP = representation("a", len(BODY))
WANT = want_for()


@pytest.mark.parametrize("ignore_range", [True, False])
@pytest.mark.parametrize("stored", [0, 5])
async def test_nothing_is_asked_for_that_a_clients_flight_brings(
    tmp_path: Path, ignore_range: bool, stored: int
) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate, ignore_range=ignore_range))
    async with filling(tmp_path, upstream, options=quick(span_pieces=16, read_ahead_pieces=16, parallel=4)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(stored), BODY)
            client = asyncio.create_task(rig.read(obj, WANT))
            while not upstream.answers:
                await settled()
            behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, lambda: True))
            await settled()
            assert (len(upstream.requests), behind.done()) == (1, False)
            gate.set()
            assert await client == BODY
            await behind
        assert obj.pieces.complete
        assert len(upstream.requests) == 1
        await rig.assert_clean()


async def test_an_object_is_opened_in_the_background_for_its_length_alone(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream) as rig:
        outcome, first = await rig.coordinator.open_in_background(WANT)
        assert isinstance(outcome, Stored)
        assert (first, outcome.obj.representation.length_bytes, outcome.opened) == (True, len(BODY), None)
        assert upstream.ranges == ["0-0"]
        await rig.assert_clean()


async def test_a_source_that_ignores_ranges_completes_an_object_from_the_clients_answer(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(gate=gate, ignore_range=True), Turn(ignore_range=True)])
    async with filling(tmp_path, upstream, options=quick(span_pieces=2, read_ahead_pieces=2, parallel=4)) as rig:
        obj = await rig.store.create(REP)
        client = asyncio.create_task(rig.read(obj, WANT, 0, PIECE, whole=False))
        while not upstream.answers:
            await settled()
        behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, lambda: True))
        async with asyncio.timeout(20):
            await settled()
            assert len(upstream.requests) == 1
            gate.set()
            assert await client == BODY[:PIECE]
            await behind
        assert obj.pieces.complete
        assert len(upstream.requests) == 1
        await rig.assert_clean()


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_completion_that_gets_its_slot_too_late_asks_for_nothing(tmp_path: Path, replaced: bool) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream, options=quick(per_origin=1)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            slot = await rig.asker.slots.take(WANT.target.origin, "another", Errand())
            behind = asyncio.create_task(rig.coordinator.complete(obj, WANT, lambda: True))
            await settled()
            assert not behind.done()
            if replaced:
                await rig.store.forget(obj.object_id, reason="superseded")
            else:
                await put_pieces(rig.store, obj, range(6), BODY)
            slot.give_back()
            if replaced:
                with pytest.raises(GenerationChanged):
                    await behind
            else:
                await behind
        assert upstream.requests == []
        await rig.assert_clean()
