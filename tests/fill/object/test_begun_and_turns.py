"""What flights leave for each other: begun pieces, and turns that one of them no longer needs."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import TruncatedBody
from cacheserver.core.integrity.trust import Claim
from cacheserver.fill import asking
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, representation, settled

BODY = blob(37, 6 * PIECE + 100)
WANT = want_for(service=OWN)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> ScriptedUpstream:
    monkeypatch.setattr(asking, "_RETAGGED_PAUSE_S", 0.0)
    return ScriptedUpstream(BODY, fields=(("Cache-Control", "max-age=60"),))


async def test_every_request_of_a_flight_holds_one_slot(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(), Turn(break_after=10), Turn(etag='"2"'), Turn(cap=PIECE), Turn(status=416)])
    used = list[int]()
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        upstream.opened = lambda: used.append(rig.asker.slots.turns.used)
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert used == [1] * 6, "the request after the 416 is without Range, and takes a turn of its own"
        assert upstream.ranges[5] is None
        await rig.assert_clean()


async def test_a_request_that_became_needless_while_it_queued_is_not_sent(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    async with filling(tmp_path, upstream, options=quick(total=2, parallel=2, span_pieces=1)) as rig:
        rig.measure_fast_line()
        holders = [await rig.asker.send(want_for(name)) for name in "xy"]
        obj = await rig.store.create(representation("a", len(BODY)))
        reading = asyncio.create_task(rig.read(obj, WANT))
        await settled()
        fill = rig.fills[0]
        first, _second = fill.flights
        fill._spans.undivided, fill._spans._whole_body = True, first
        upstream.script.append(Turn(gate=gate))
        for holder in holders:
            holder.close()
        await settled()
        assert len(upstream.requests) == 3
        assert list(fill.flights) == [first]
        gate.set()
        assert await reading == BODY
        await rig.assert_clean()


async def test_what_was_begun_under_another_tag_is_not_gone_on_with(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    options = quick(parallel=1, span_pieces=1, read_ahead_pieces=0, tries=1, linger_s=0.2)
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await rig.opened(WANT, (0, PIECE))
        upstream.script.extend([Turn(break_after=1000)])
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False)
        assert rig.fills[0].begun
        upstream.body, upstream.etag = BODY[:PIECE] + BODY[PIECE : 2 * PIECE][::-1] + BODY[2 * PIECE :], '"2"'
        assert await rig.read(obj, WANT, 2 * PIECE, 3 * PIECE) == BODY[2 * PIECE : 3 * PIECE]
        assert obj.representation.validators.etag == '"2"'
        assert await rig.read(obj, WANT) == upstream.body
        await rig.assert_clean()


async def test_what_was_begun_of_an_object_that_has_gone_does_not_keep_it(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    options = quick(parallel=1, span_pieces=1, read_ahead_pieces=0, tries=1, linger_s=60)
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await rig.store.create(representation("a", len(BODY)))
        upstream.script.append(Turn(break_after=1000))
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT, whole=False)
        await settled()
        assert [bool(fill.begun) for fill in rig.fills] == [True]
        await rig.store.forget(obj.object_id, reason="purged")
        await settled()
        assert not rig.fills
        assert not obj.held
        await rig.assert_clean()


@pytest.mark.parametrize("linger_s", [0, 0.01])
@pytest.mark.parametrize("slow", [False, True], ids=["waits", "still sends"])
async def test_who_was_given_some_of_a_piece_gets_the_rest_when_its_flight_fails_for_another(
    tmp_path: Path, upstream: ScriptedUpstream, slow: bool, linger_s: float
) -> None:
    gate, end = asyncio.Event(), asyncio.Event()
    upstream.script.append(Turn(gate=gate, break_after=1000, end=end))
    said = SayingAnchor(Claim("name", authentic=True, sha1=hashlib.sha1(BODY).digest()))
    options = quick(parallel=1, tries=1, linger_s=linger_s)
    async with filling(tmp_path, upstream, options=options, anchor=said) as rig:
        obj = await rig.opened(WANT, (0, PIECE))
        with obj.holding():
            cause = rig.coordinator.reader(obj, WANT, 0, PIECE, whole=False)
            waiting = asyncio.create_task(cause.readable(0))
            later = rig.coordinator.reader(obj, want_for(service=OWN), 0, PIECE, whole=False)
            gate.set()
            given = await later.readable(0)
            assert 0 < given <= 1000
            reading = None if slow else asyncio.create_task(later.readable(1000))
            await waiting
            end.set()
            with pytest.raises(TruncatedBody):
                await cause.readable(1000)
            cause.close(reached=1000)
            await asyncio.sleep(30 * linger_s)
            while given < PIECE - 1:
                given = await (reading or later.readable(given))
                reading = None
            later.close(reached=given)
        assert upstream.requests[-1].fields.value("Range") == f"bytes=1000-{PIECE - 1}", "the rest, and no more"
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("turn", "more"),
    [(Turn(ignore_range=True), []), (Turn(status=416), [f"{PIECE}-{2 * PIECE - 1}", None])],
)
async def test_flights_that_queue_leave_their_pieces_to_a_body_that_comes_whole(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn, more: list[str | None]
) -> None:
    upstream.script.append(turn)
    async with filling(tmp_path, upstream, options=quick(total=1, parallel=4, span_pieces=1)) as rig:
        rig.measure_fast_line()
        obj = await rig.store.create(representation("a", len(BODY)))
        assert await rig.read(obj, WANT) == BODY
        await rig.idle()
        assert upstream.ranges == [f"0-{PIECE - 1}", *more], "one was granted its turn before the refusal was read"
        await rig.assert_clean()
