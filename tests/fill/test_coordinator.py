"""The one place that starts fills: one request for many callers, short memories."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.errors import Draining
from cacheserver.fill.metadata import MetadataFetcher
from tests.support.content import blob
from tests.support.filling import OWN, SHIPPED, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, representation, settled

BODY = blob(4, 3 * PIECE + 100)
WANT = want_for(service=SHIPPED)
FRESH = (("Cache-Control", "max-age=60"),)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def test_many_callers_are_one_upstream_request(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, options=quick(span_pieces=8)) as rig:

        async def client() -> bytes:
            await rig.coordinator.open(WANT, (0, None))
            obj = await rig.lookup.find(WANT)
            assert obj is not None
            return await rig.read(obj, WANT)

        bodies = await asyncio.gather(*(client() for _ in range(20)))
        assert bodies == [BODY] * 20
        assert len(upstream.requests) == 1
        assert rig.meter.counts[("collapsed",)] >= 19
        await rig.assert_clean()


async def test_a_client_that_finds_an_object_in_its_first_moment_waits_for_what_is_on_its_way(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, options=quick(span_pieces=8)) as rig:
        opening = asyncio.create_task(rig.coordinator.open(WANT, (0, None)))
        while (obj := rig.lookup.peek(WANT)) is None:  # noqa: ASYNC110 - the very turn of the loop is what matters
            await asyncio.sleep(0)
        assert await rig.read(obj, WANT) == BODY
        await opening
        assert len(upstream.requests) == 1
        await rig.assert_clean()


async def test_only_the_first_caller_is_called_first(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        outcomes = await asyncio.gather(*(rig.coordinator.open(WANT, (0, None)) for _ in range(3)))
        assert [first for _outcome, first in outcomes] == [True, False, False]
        assert len({id(outcome) for outcome, _first in outcomes}) == 1


async def test_a_failed_opening_is_told_to_all_and_not_remembered(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(status=403)] * 2)
    async with filling(tmp_path, upstream) as rig:
        outcomes = await asyncio.gather(*(rig.coordinator.open(WANT, (0, None)) for _ in range(3)))
        assert all(isinstance(outcome, Answered) and outcome.status == 403 for outcome, _first in outcomes)
        await rig.opened(WANT)


@pytest.mark.parametrize(("status", "remembered"), [(404, True), (410, True), (403, False), (500, False)])
async def test_a_shipped_services_missing_file_is_remembered_for_seconds(
    tmp_path: Path, upstream: ScriptedUpstream, status: int, remembered: bool
) -> None:
    asked = 1 if status in (404, 410) else 2  # the Range may be what was refused
    upstream.script.extend([Turn(status=status)] * 4)
    async with filling(tmp_path, upstream) as rig:
        for _ in range(2):
            outcome, _first = await rig.coordinator.open(WANT, (0, None))
            assert isinstance(outcome, Answered)
        assert len(upstream.requests) == (1 if remembered else 2 * asked)
        rig.clock.now_s += 3.1
        upstream.script.clear()
        await rig.opened(WANT)


async def test_an_own_services_missing_file_is_asked_for_again(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(status=404))
    async with filling(tmp_path, upstream) as rig:
        want = want_for(service=OWN)
        assert isinstance((await rig.coordinator.open(want, (0, None)))[0], Answered)
        await rig.opened(want)


async def test_each_variant_is_found_by_its_own_request_only(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.fields = (*FRESH, ("Vary", "Accept"))
    english, french = want_for("a", ("Accept", "en")), want_for("a", ("Accept", "fr"))
    async with filling(tmp_path, upstream) as rig:
        one = await rig.opened(english)
        assert await rig.lookup.find(english) is one
        assert await rig.lookup.find(french) is None
        two = await rig.opened(french)
        assert two is not one
        assert one.object_id != two.object_id
        assert rig.lookup.peek(english) is one
        assert rig.lookup.peek(french) is two
        assert (await rig.read(one, english), await rig.read(two, french)) == (BODY, BODY)
        await rig.assert_clean()
    async with filling(tmp_path, upstream) as rig:
        assert rig.lookup.peek(english) is None
        found = [await rig.lookup.find(want) for want in (english, french)]
        assert [obj and obj.object_id for obj in found] == [one.object_id, two.object_id]


async def test_a_stop_ends_openings_as_well(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(head_gate=gate))
    async with filling(tmp_path, upstream) as rig:
        task = asyncio.create_task(rig.coordinator.open(WANT, (0, None)))
        await settled()
        await rig.coordinator.stop()
        with pytest.raises(Draining):
            await task
        await rig.assert_clean()


async def test_a_lost_vary_marker_costs_one_question_and_no_variant(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.fields = (*FRESH, ("Vary", "Accept"))
    english = want_for("a", ("Accept", "en"))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(english)
        assert await rig.read(obj, english) == BODY
        await rig.store.forget(english.target.object_id, reason="space")
        assert await rig.lookup.find(english) is None
        upstream.requests.clear()
        assert await rig.opened(english) is obj
        assert await rig.read(obj, english) == BODY
        assert len(upstream.requests) == 1
        assert await rig.lookup.find(english) is obj
        await rig.assert_clean()


async def test_what_was_stored_since_the_look_up_is_not_stored_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.opened(WANT) is obj
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        newer = await rig.opened(WANT)
        assert newer is not obj
        assert obj.obsolete
        await rig.assert_clean()


async def test_a_question_about_an_object_holds_it_before_its_first_step(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MetadataFetcher, "expects_manifest", lambda *_args: True)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(representation("a", len(BODY)))
        rig.coordinator.reader(obj, WANT, 0, 1, whole=False).close(reached=0)
        assert rig.fills, "what will be condemned must not be fetched by another fill"
        assert obj.held, "its only reader has gone, and the object could be closed"
        await rig.assert_clean()
        assert not obj.held


async def test_a_request_that_waits_for_others_several_times_is_counted_once(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    counted = replace(WANT, collapsed=True)
    async with filling(tmp_path, upstream) as rig:
        await asyncio.gather(*(rig.coordinator.open(each, (0, None)) for each in (WANT, WANT, counted)))
        assert rig.meter.counts["collapsed",] == 1
        await rig.assert_clean()
