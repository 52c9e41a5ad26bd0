"""What a purge has confirmed holds for the next request, whatever was asked for before it and comes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.fill.outcome import Relayed, Stored
from cacheserver.maintenance.purging import purge
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, want_for
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn
from tests.support.stored import PIECE, put, representation, settled

OLD, NEW = blob(21, 3 * PIECE), blob(22, 3 * PIECE)
WANT = want_for()
ID = WANT.target.object_id
OLD_FIELDS = (("Cache-Control", "max-age=0"),)


def change(upstream: ScriptedUpstream) -> None:
    """The origin has another generation from now on."""
    upstream.body, upstream.etag = NEW, '"2"'


@contextmanager
def answering_late(upstream: ScriptedUpstream) -> Iterator[asyncio.Event]:
    """What is asked within the block is answered from what the origin holds then, once the event is set."""
    gate, real = asyncio.Event(), upstream.open

    async def late(request: UpstreamRequest) -> ScriptedAnswer:
        answer = await real(request)
        await gate.wait()
        return answer

    upstream.open = late  # type: ignore[method-assign]
    yield gate
    upstream.open = real  # type: ignore[method-assign]


async def must_hold_new(rig: Rig) -> None:
    obj = await rig.lookup.find(want_for())
    assert isinstance(obj, StoredObject)
    assert await rig.read(obj, want_for()) == NEW
    await rig.assert_clean()


async def test_an_opening_that_began_before_a_purge_stores_nothing_after_it(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(OLD)
    async with filling(tmp_path, upstream) as rig:
        with answering_late(upstream) as gate:
            before = asyncio.create_task(rig.coordinator.open(WANT, (0, None)))
            await settled()
        change(upstream)
        await purge(rig.store, ID)
        outcome, first = await rig.coordinator.open(want_for(), (0, None))
        assert (isinstance(outcome, Stored), first) == (True, True), "it does not join what began before"
        gate.set()
        old, _first = await before
        assert isinstance(old, Relayed)
        assert (old.reason, old.remember) == ("purged", False)
        old.answer.close()
        await must_hold_new(rig)


async def test_a_revalidation_that_began_before_a_purge_stores_nothing_after_it(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(OLD, fields=OLD_FIELDS)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == OLD
        upstream.body, upstream.etag = blob(23, 3 * PIECE), '"middle"'
        with answering_late(upstream) as gate:
            before = asyncio.create_task(rig.revalidation.run(obj, WANT))
            await settled()
        change(upstream)
        await purge(rig.store, ID)
        assert isinstance((await rig.coordinator.open(want_for(), (0, None)))[0], Stored)
        gate.set()
        outcome = await before
        assert isinstance(outcome, Relayed)
        outcome.answer.close()
        await must_hold_new(rig)


async def test_a_refusal_that_is_remembered_is_forgotten_by_a_purge(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(NEW)
    upstream.script.append(Turn(status=404))
    want = want_for(service=SHIPPED)
    async with filling(tmp_path, upstream) as rig:
        for _ in range(2):
            outcome, _first = await rig.coordinator.open(want, (0, None))
            assert isinstance(outcome, Answered)
        assert len(upstream.requests) == 1, "remembered"
        await purge(rig.store, want.target.object_id)
        outcome, _first = await rig.coordinator.open(want, (0, None))
        assert isinstance(outcome, Stored)
        await rig.idle()


@pytest.mark.parametrize("purges", [1, 3])
async def test_what_is_asked_for_after_a_purge_is_stored(tmp_path: Path, purges: int) -> None:
    async with filling(tmp_path, ScriptedUpstream(NEW)) as rig:
        for _ in range(purges):
            await purge(rig.store, ID)
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == NEW
        await must_hold_new(rig)


VARYING = (("Cache-Control", "max-age=60"), ("Vary", "Accept"))
ENGLISH, FRENCH = want_for("a", ("Accept", "en")), want_for("a", ("Accept", "fr"))


async def both_stored(rig: Rig) -> None:
    for want in (ENGLISH, FRENCH):
        assert await rig.read(await rig.opened(want), want) == OLD
    await rig.assert_clean()


async def test_a_purge_reaches_variants_whose_marker_was_lost(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(OLD, fields=VARYING)
    async with filling(tmp_path, upstream) as rig:
        await both_stored(rig)
        await rig.store.forget(ID, reason="space")
        await purge(rig.store, ID)
        change(upstream)
        assert await rig.read(await rig.opened(ENGLISH), ENGLISH) == NEW
        assert await rig.lookup.find(FRENCH) is None, "there is a marker again, but not the one that led to this"
        assert rig.lookup.peek(FRENCH) is None
        assert await rig.read(await rig.opened(FRENCH), FRENCH) == NEW
        await rig.assert_clean()


async def test_a_marker_that_is_made_while_its_key_is_purged_leads_to_nothing(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(OLD, fields=VARYING)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(ENGLISH)
        since = rig.store.purges
        await purge(rig.store, ID)
        marker = VaryMarker(ID, ("accept",), obj.representation.marker)
        await rig.store.mark_vary(marker, service="own", since=since)
        assert await rig.store.find(ID) is None


async def test_variants_survive_a_restart_with_their_marker(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(OLD, fields=VARYING)
    async with filling(tmp_path, upstream) as rig:
        await both_stored(rig)
    upstream.requests.clear()
    async with filling(tmp_path, upstream) as rig:
        for want in (ENGLISH, FRENCH):
            found = await rig.lookup.find(want)
            assert found is not None
            assert await rig.read(found, want) == OLD
    assert upstream.requests == []


async def test_a_marker_is_kept_as_long_as_what_it_leads_to_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoredObject, "used_again", lambda *_args: True)
    upstream = ScriptedUpstream(OLD, fields=VARYING)
    async with filling(tmp_path, upstream, capacity_bytes=40 * PIECE) as rig:
        await both_stored(rig)
        obj = await rig.lookup.find(ENGLISH)
        assert obj is not None
        for _ in range(3):
            rig.store.touch(obj, 0, 1)
        for number in range(12):
            await put(rig.store, representation(f"n{number}"))
        assert await rig.lookup.find(ENGLISH) is obj
