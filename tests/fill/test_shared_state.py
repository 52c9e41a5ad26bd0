"""What one client's request may change for others: nothing but by facts about the object."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.errors import GenerationChanged, UpstreamTimeout
from cacheserver.core.request.service import Service
from cacheserver.fill.asking import Want
from cacheserver.fill.outcome import Relayed, Stored
from cacheserver.store.stored_object import StoredObject
from tests.support.content import blob
from tests.support.filling import Rig, filling, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled

BODY = blob(4, 3 * PIECE + 100)
FRESH = (("Cache-Control", "max-age=60"),)
PLAIN = want_for("a")
AUTHORIZED = want_for("a", ("Authorization", "Basic eDp5"))
NO_STORE = want_for("a", ("Cache-Control", "no-cache, no-store"))
COOKIE = want_for("a", ("Cookie", "a=b"))
ORIGIN = want_for("a", ("Origin", "http://evil.test"))
SIGNED = Service(name="shipped", hosts=("a.test",), lifetime="immutable", query="drop-listed", query_drop=("P1",))
HEALTHY = want_for("a", service=SIGNED)


def spelt(path_and_query: str) -> Want:
    """Another spelling of the same key."""
    return replace(HEALTHY, target=replace(HEALTHY.target, path_and_query=path_and_query))


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY, fields=FRESH)


async def stored(rig: Rig, want: Want = PLAIN) -> StoredObject:
    """The whole object, asked for by a client without anything private."""
    obj = await rig.opened(want)
    assert await rig.read(obj, want) == BODY
    await rig.assert_clean()
    return obj


async def kept(rig: Rig, obj: StoredObject) -> bool:
    """Whether others still get what is stored; nothing of it is asked for."""
    await rig.assert_clean()
    asked = len(rig.upstream.requests)
    found = await rig.lookup.find(PLAIN)
    return found is obj and await rig.read(obj, PLAIN) == BODY and len(rig.upstream.requests) == asked


@pytest.mark.parametrize("etag", [None, 'W/"1"', '"1"'])
@pytest.mark.parametrize("want", [AUTHORIZED, NO_STORE, COOKIE])
@pytest.mark.parametrize("forced", [True, False])
async def test_a_private_request_removes_nothing(
    tmp_path: Path, upstream: ScriptedUpstream, etag: str | None, want: Want, forced: bool
) -> None:
    upstream.etag = etag
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        upstream.ignore_conditions = True
        if not forced:
            upstream.fields = (("Cache-Control", "private"),)
        outcome = await rig.revalidation.run(obj, want, forced=forced)
        if isinstance(outcome, Relayed):
            outcome.answer.close()
        assert await kept(rig, obj)


@pytest.mark.parametrize("status", [404, 410, 302, 204])
@pytest.mark.parametrize("want", [AUTHORIZED, NO_STORE, COOKIE, ORIGIN])
async def test_a_refusal_of_one_clients_request_ends_no_object(
    tmp_path: Path, upstream: ScriptedUpstream, status: int, want: Want
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        upstream.script.append(Turn(status=status))
        assert isinstance(await rig.revalidation.run(obj, want), Answered)
        assert await kept(rig, obj)


@pytest.mark.parametrize("said", ["no-store", "private"])
async def test_a_304_to_one_clients_request_ends_no_object(
    tmp_path: Path, upstream: ScriptedUpstream, said: str
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        upstream.fields = (("Cache-Control", said),)
        outcome = await rig.revalidation.run(obj, COOKIE)
        assert isinstance(outcome, Stored)
        assert not outcome.leaves
        assert not obj.representation.invalidated
        assert await kept(rig, obj)


@pytest.mark.parametrize(("etag", "want"), [('"1"', AUTHORIZED), ('"2"', AUTHORIZED), (None, PLAIN), ('W/"1"', PLAIN)])
async def test_a_directive_of_one_client_replaces_only_what_is_shown_to_be_another(
    tmp_path: Path, upstream: ScriptedUpstream, etag: str | None, want: Want
) -> None:
    upstream.etag = etag and etag.replace("2", "1")
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        upstream.etag, upstream.ignore_conditions = etag, True
        outcome = await rig.revalidation.run(obj, want, forced=True)
        if isinstance(outcome, Relayed):
            outcome.answer.close()
        assert await kept(rig, obj)


async def test_a_reload_by_one_client_brings_the_new_content_to_all(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        outcome = await rig.revalidation.run(obj, want_for("a", ("Cache-Control", "no-cache")), forced=True)
        assert isinstance(outcome, Stored)
        assert await rig.read(outcome.obj, PLAIN) == BODY[::-1]
        await rig.assert_clean()


@pytest.mark.parametrize("bad", ["//a", "/a?P1=bad", "/%61"])
async def test_a_refused_spelling_is_no_refusal_of_the_healthy_url(
    tmp_path: Path, upstream: ScriptedUpstream, bad: str
) -> None:
    upstream.script.append(Turn(status=404))
    async with filling(tmp_path, upstream) as rig:
        assert isinstance((await rig.coordinator.open(spelt(bad), (0, None)))[0], Answered)
        assert isinstance((await rig.coordinator.open(spelt(bad), (0, None)))[0], Answered)
        assert len(upstream.requests) == 1, "the refusal of the same request is remembered"
        assert await rig.read(await rig.opened(HEALTHY), HEALTHY) == BODY
        await rig.assert_clean()


@pytest.mark.parametrize("turn", [Turn(status=404), Turn(status=403), Turn(refuse=UpstreamTimeout("silent"))])
async def test_who_waits_for_another_request_asks_again_when_that_fails(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn
) -> None:
    gate = turn.head_gate = asyncio.Event()
    upstream.script.extend([turn] * 8)
    async with filling(tmp_path, upstream) as rig:
        attacker = asyncio.create_task(rig.coordinator.open(spelt("//a"), (0, None)))
        await settled()
        assert upstream.requests
        victims = [asyncio.create_task(rig.coordinator.open(HEALTHY, (0, None))) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        outcomes = await asyncio.gather(*victims, return_exceptions=True)
        assert all(isinstance(outcome, GenerationChanged) for outcome in outcomes)
        await asyncio.gather(attacker, return_exceptions=True)
        upstream.script.clear()
        asked = len(upstream.requests)
        assert {await rig.opened_or_found(HEALTHY) for _ in range(3)}
        await rig.idle()
        assert len(upstream.requests) == asked + 1
        await rig.assert_clean()


async def test_what_passes_for_one_client_is_stored_for_others(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(fields=(("Cache-Control", "private"),)))
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(COOKIE, (0, None))
        assert isinstance(outcome, Relayed)
        outcome.answer.close()
        assert rig.coordinator.passes(COOKIE)
        assert not rig.coordinator.passes(PLAIN)


@pytest.mark.parametrize("turn", [Turn(status=404), Turn(fields=(("Cache-Control", "no-store"),))])
async def test_a_purge_ends_what_is_remembered(tmp_path: Path, upstream: ScriptedUpstream, turn: Turn) -> None:
    upstream.script.append(turn)
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(HEALTHY, (0, None))
        if isinstance(outcome, Relayed):
            outcome.answer.close()
        rig.store.outdate(HEALTHY.target.object_id)
        assert not rig.coordinator.passes(HEALTHY)
        assert rig.coordinator.remembered.refusal(HEALTHY) is None
