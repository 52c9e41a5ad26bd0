"""Whether a stored object still holds: asked once for many callers, and what each answer does to the object."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import BadAnswer, GenerationChanged, OriginStatus
from cacheserver.fill.outcome import Relayed, Stored
from cacheserver.fill.refreshing import part_with
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.stored_object import StoredObject
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import NOW_S, PIECE, bytes_on_disk, settled

BODY = blob(4, 3 * PIECE + 100)
WANT = want_for(service=SHIPPED)
FRESH = (("Cache-Control", "max-age=60"),)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def complete(rig: Rig) -> StoredObject:
    obj = await rig.opened(WANT)
    assert await rig.read(obj, WANT) == BODY
    await rig.assert_clean()
    rig.upstream.requests.clear()
    return obj


async def test_an_object_that_begins_to_vary_leaves_nothing_behind(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.fields = FRESH
    want = want_for("a", ("Accept", "en"))
    async with filling(tmp_path, upstream) as rig:
        old = await rig.opened(want)
        await rig.read(old, want)
        await rig.idle()
        upstream.fields, upstream.etag, upstream.body = (*FRESH, ("Vary", "Accept")), '"2"', BODY[::-1]
        outcome = await rig.revalidation.run(old, want)
        assert isinstance(outcome, Stored)
        assert await rig.read(outcome.obj, want) == BODY[::-1]
        await rig.assert_clean()
        assert old.obsolete
        assert await rig.lookup.find(want) is outcome.obj
        marker_bytes = rig.store.volumes[0].ledger.stored_bytes - bytes_on_disk(tmp_path)
        assert marker_bytes == 512


async def test_callers_at_once_revalidate_once_and_a_304_refreshes(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.fields = (("X-New", "yes"),)
        outcomes = await asyncio.gather(*(rig.revalidation.run(obj, WANT) for _ in range(5)))
        assert all(isinstance(outcome, Stored) and outcome.obj is obj for outcome in outcomes)
        assert len(upstream.requests) == 1
        assert obj.representation.fields.value("X-New") == "yes"
        assert obj.representation.response_time_s == NOW_S + 1
        await rig.assert_clean()


async def test_a_changed_object_is_replaced_and_held_readers_keep_the_old_one(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        old.hold()
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        outcome = await rig.revalidation.run(old, WANT)
        assert isinstance(outcome, Stored)
        assert await rig.read(outcome.obj, WANT) == BODY[::-1]
        assert await rig.read(old, WANT) == BODY
        old.release()
        await rig.assert_clean()


@pytest.mark.parametrize(("status", "forgotten"), [(404, True), (410, True), (302, True), (401, False), (403, False)])
async def test_only_a_refusal_of_the_object_itself_forgets_it(
    tmp_path: Path, upstream: ScriptedUpstream, status: int, forgotten: bool
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.script.append(Turn(status=status))
        outcome = await rig.revalidation.run(obj, WANT)
        assert isinstance(outcome, Answered)
        assert obj.obsolete is forgotten, "a client with a bad token must not empty the cache"
        await rig.assert_clean()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_fault_at_revalidation_leaves_the_object(
    tmp_path: Path, upstream: ScriptedUpstream, status: int
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.script.append(Turn(status=status))
        with pytest.raises(OriginStatus):
            await rig.revalidation.run(obj, WANT)
        assert not obj.obsolete
        await rig.assert_clean()


async def test_an_answer_for_one_client_is_not_shared_at_revalidation(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.etag, upstream.fields = '"2"', (("Cache-Control", "no-store"),)
        outcomes = await asyncio.gather(*(rig.revalidation.run(obj, WANT) for _ in range(3)), return_exceptions=True)
        relayed = [outcome for outcome in outcomes if isinstance(outcome, Relayed)]
        assert len(relayed) == 1, "two readers of one body would each get half of it"
        assert sum(isinstance(outcome, GenerationChanged) for outcome in outcomes) == 2
        relayed[0].answer.close()
        await rig.assert_clean()


@pytest.mark.parametrize("turn", [Turn(), Turn(status=503), Turn(status=404)])
async def test_revalidation_behind_an_answer_runs_once_and_fails_silently(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.script.append(turn)
        for _ in range(3):
            rig.revalidation.start(obj, WANT)
        await rig.assert_clean()
        assert len(upstream.requests) == 1


async def test_a_client_that_joins_a_revalidation_in_the_background_gets_its_outcome(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        rig.revalidation.start(obj, WANT)
        outcome = await rig.revalidation.run(obj, WANT)
        assert isinstance(outcome, Stored)
        assert outcome.obj is obj
        assert len(upstream.requests) == 1


async def test_an_object_made_by_a_revalidation_is_filled_from_its_answer_in_its_first_moment(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, options=quick(span_pieces=8)) as rig:
        old = await complete(rig)
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        rig.revalidation.start(old, WANT)
        while (obj := rig.lookup.peek(WANT)) in (None, old):  # noqa: ASYNC110 - the very turn of the loop is what matters
            await asyncio.sleep(0)
        assert obj is not None
        assert await rig.read(obj, WANT) == BODY[::-1]
        assert len(upstream.requests) == 1
        await rig.assert_clean()


async def test_a_body_of_another_length_is_another_generation_whatever_its_tag(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        upstream.body, upstream.ignore_conditions = BODY + b"more", True
        outcome = await rig.revalidation.run(old, WANT)
        assert isinstance(outcome, Stored)
        assert outcome.obj is not old
        assert old.obsolete
        assert await rig.read(outcome.obj, WANT) == BODY + b"more"
        await rig.assert_clean()


async def test_an_origin_without_304_says_that_the_same_still_holds(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        upstream.ignore_conditions = True
        outcome = await rig.revalidation.run(old, WANT)
        assert isinstance(outcome, Stored)
        assert outcome.obj is old
        assert not old.obsolete
        await rig.assert_clean()


async def test_an_object_is_gone_when_its_successor_may_not_be_stored(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        upstream.etag, upstream.fields = '"2"', (("Cache-Control", "no-store"),)
        outcome = await rig.revalidation.run(old, WANT)
        assert isinstance(outcome, Relayed)
        assert old.obsolete
        assert await rig.lookup.find(WANT) is None
        outcome.answer.close()
        await rig.assert_clean()


async def test_who_comes_while_the_newer_one_is_being_made_waits_for_it(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, making, create = threading.Event(), threading.Event(), ObjectFile.create

    def slow(path: str, rep: Representation) -> ObjectFile:
        making.set()
        gate.wait(10)
        return create(path, rep)

    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        monkeypatch.setattr(ObjectFile, "create", slow)
        revalidating = asyncio.create_task(rig.revalidation.run(old, WANT))
        assert await asyncio.to_thread(making.wait, 10)
        looking = asyncio.create_task(rig.lookup.find(WANT))
        await settled()
        assert not looking.done()
        gate.set()
        outcome = await revalidating
        assert isinstance(outcome, Stored)
        assert await looking is outcome.obj
        assert await rig.read(outcome.obj, WANT) == BODY[::-1]
        assert len(upstream.requests) == 1, "nobody else asks for what is on its way"
        await rig.assert_clean()


async def test_nothing_is_asked_about_an_object_that_is_gone(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        await rig.store.forget(obj.object_id, reason="purged")
        rig.revalidation.start(obj, WANT)
        with pytest.raises(GenerationChanged):
            await rig.revalidation.run(obj, WANT)
        await rig.assert_clean()
        assert upstream.requests == []


async def test_a_variant_that_still_holds_is_found_by_its_marker_as_before(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.fields = (*FRESH, ("Vary", "Accept"))
    want = want_for("a", ("Accept", "en"))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(want)
        assert await rig.read(obj, want) == BODY
        marker = obj.representation.marker
        assert isinstance(await rig.revalidation.run(obj, want), Stored)
        assert obj.representation.marker == marker
        assert await rig.lookup.find(want) is obj
        await rig.assert_clean()


async def test_a_304_of_another_generation_is_no_word_of_ours(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        old = await complete(rig)
        upstream.body = BODY[::-1]
        upstream.script.extend([Turn(status=304, etag='"2"'), Turn(etag='"2"')])
        outcome = await rig.revalidation.run(old, WANT)
        assert isinstance(outcome, Stored)
        assert old.obsolete
        assert await rig.read(outcome.obj, WANT) == BODY[::-1]
        assert [request.fields.value("If-None-Match") for request in upstream.requests[:2]] == ['"1"', None]
        await rig.assert_clean()


@pytest.mark.parametrize("status", [206, 304])
async def test_an_answer_that_fits_no_request_leaves_the_object(
    tmp_path: Path, upstream: ScriptedUpstream, status: int
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.script.extend([Turn(status=status, etag='"2"')] * 2)
        with pytest.raises(BadAnswer):
            await rig.revalidation.run(obj, WANT)
        assert not obj.obsolete
        await rig.assert_clean()


async def test_a_304_that_forbids_storing_serves_once_more(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await complete(rig)
        upstream.fields = (("Cache-Control", "no-store"),)
        outcome = await rig.revalidation.run(obj, WANT)
        assert isinstance(outcome, Stored)
        assert (outcome.obj, outcome.leaves) == (obj, True)
        assert obj.representation.invalidated
        assert await rig.read(obj, WANT) == BODY
        await part_with(rig.store, obj)
        assert await rig.lookup.find(WANT) is None
        await rig.assert_clean()
