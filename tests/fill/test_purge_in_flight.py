"""What a purge has confirmed holds for the next request, whatever was asked for before it and comes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.fill.opening import Answered, Relayed, Stored
from cacheserver.maintenance.purging import purge
from cacheserver.store.stored_object import StoredObject
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, want_for
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled

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
