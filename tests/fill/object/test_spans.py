"""Spans of sources that make little of a Range, or whose edges disagree: a client's file must not suffer from ours."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from cacheserver.core.errors import GenerationChanged
from cacheserver.fill import asking
from cacheserver.fill.outcome import Stored
from tests.support.content import blob
from tests.support.filling import OWN, CancelAt, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE

BODY = blob(31, 6 * PIECE + 100)
WANT = want_for(service=OWN)
FRESH = (("Cache-Control", "max-age=60"),)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> ScriptedUpstream:
    monkeypatch.setattr(asking, "_RETAGGED_PAUSE_S", 0.0)
    return ScriptedUpstream(BODY, fields=FRESH)


@pytest.mark.parametrize("cap", [PIECE // 2, PIECE, PIECE + 7])
async def test_a_source_that_gives_less_than_asked_is_asked_for_the_rest(
    tmp_path: Path, upstream: ScriptedUpstream, cap: int
) -> None:
    upstream.script.extend([Turn(cap=cap)] * 99)
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert rig.meter.received_bytes == len(BODY)
        await rig.assert_clean()


async def test_a_source_that_gives_next_to_nothing_is_asked_for_everything(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(cap=3)] * 99)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert upstream.ranges[1] is None
        assert len(upstream.requests) == 2
        await rig.assert_clean()


async def test_a_later_part_need_not_repeat_the_length(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(), *[Turn(without_total=True)] * 99])
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert None not in upstream.ranges
        await rig.assert_clean()


@pytest.mark.parametrize("status", [400, 403, 405, 416, 501])
async def test_a_later_span_that_is_refused_comes_from_one_undivided_answer(
    tmp_path: Path, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script.extend([Turn(), Turn(status=status)])
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert upstream.ranges.count(None) == 1, "what it goes on with is taken too"
        assert len(upstream.requests) == 3
        await rig.assert_clean()


@pytest.mark.parametrize("flips", [1, 2])
async def test_an_edge_with_another_tag_is_asked_again(tmp_path: Path, upstream: ScriptedUpstream, flips: int) -> None:
    upstream.script.extend([Turn(), *[Turn(etag='"2"')] * flips])
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert obj.representation.validators.etag == '"1"'
        rest = f"{2 * PIECE}-{4 * PIECE - 1}"
        assert upstream.ranges[1 : flips + 2] == [rest] * (flips + 1)
        assert len(upstream.requests) == flips + (4 if flips == 1 else 3), "after two flips the rest comes undivided"
        await rig.assert_clean()


@pytest.mark.parametrize("parallel", [1, 2])
async def test_an_answer_with_another_tag_goes_on_where_it_repeats_what_is_here(
    tmp_path: Path, upstream: ScriptedUpstream, parallel: int
) -> None:
    upstream.script.extend([Turn(), *[Turn(etag=f'"{number}"') for number in range(2, 99)]])
    async with filling(tmp_path, upstream, options=quick(parallel=parallel)) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert obj.representation.validators.etag == obj.representation.fields.value("ETag") != '"1"'
        assert not rig.coordinator.passes(WANT)
        await rig.assert_clean()


async def test_an_answer_of_other_bytes_never_goes_on_and_the_next_one_passes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(WANT, (0, 2 * PIECE))
        assert await rig.read(obj, WANT, 0, 2 * PIECE, whole=False) == BODY[: 2 * PIECE]
        upstream.body, upstream.etag = BODY[:PIECE] + BODY[PIECE:][::-1], '"2"'
        with pytest.raises(GenerationChanged):
            await rig.read(obj, WANT)
        assert obj.obsolete
        assert rig.coordinator.passes(WANT)
        await rig.assert_clean()


async def test_an_undivided_answer_is_given_back_when_its_client_leaves_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_RETAGGED_PAUSE_S", 0.0)
    for number in count(1, 3):
        upstream = ScriptedUpstream(BODY, fields=FRESH)
        upstream.script.extend([Turn(), *[Turn(etag=f'"{tag}"') for tag in range(2, 99)]])
        async with filling(tmp_path / str(number), upstream, options=quick(parallel=1)) as rig:
            obj = await rig.opened(WANT)
            work = CancelAt(rig.read(obj, WANT), number)
            await asyncio.gather(asyncio.create_task(_run(work)), return_exceptions=True)
            await rig.assert_clean()
        if not work.reached:
            return


async def _run(work: CancelAt) -> None:
    await work


async def test_a_later_part_that_forbids_storing_ends_the_object_with_its_last_piece(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(WANT)
        upstream.fields = (("Cache-Control", "no-store"),)
        assert await rig.read(obj, WANT) == BODY
        await rig.idle()
        assert obj.obsolete
        assert await rig.lookup.find(WANT) is None


async def test_a_later_part_says_how_long_the_object_is_fresh(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        outcome, _first = await rig.coordinator.open(WANT, (0, None))
        assert isinstance(outcome, Stored)
        upstream.fields = (("Cache-Control", "max-age=7"), ("X-New", "1"))
        assert await rig.read(outcome.obj, WANT) == BODY
        known = outcome.obj.representation.fields
        assert (known.value("Cache-Control"), known.value("X-New")) == ("max-age=7", "1")
        await rig.assert_clean()
