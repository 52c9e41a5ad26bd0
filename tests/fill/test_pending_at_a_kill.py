"""What was stored while a manifest was pending, and the node was killed: compared before it is given out again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import ABSENT, STORED
from cacheserver.core.request.keys import object_id
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.store.object.file import ObjectFile
from tests.support.content import blob
from tests.support.filling import Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream
from tests.support.stored import PIECE, put_pieces, representation, running_store, settled

BODY = blob(61, 3 * PIECE + 100)
REP = replace(representation("a", len(BODY)), unsettled=True)
WANT = want_for()
BAD = 1
SPOILT = BODY[:PIECE] + bytes(PIECE) + BODY[2 * PIECE :]
KNOWN = Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)


async def killed(directory: Path, pieces: range = range(4)) -> None:
    """A node stored ``pieces``, of which one is wrong, and was killed before it knew what they must be."""
    async with running_store(directory, clean=False) as store:
        obj = await store.create(REP)
        with obj.holding():
            await put_pieces(store, obj, pieces, SPOILT)


class Asked(list[int]):
    """Grows with each question."""

    def __init__(self) -> None:
        self.first = asyncio.Event()


def told(rig: Rig, metadata: Metadata, gate: asyncio.Event | None = None) -> Asked:
    """The rig's fetcher gives this metadata, once ``gate`` is open."""
    asked = Asked()

    async def fetch(*_args: object, **_kwargs: object) -> Metadata:
        asked.append(1)
        asked.first.set()
        if gate is not None:
            await gate.wait()
        return metadata

    rig.fetcher.fetch = fetch  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("pieces", [range(4), range(3)], ids=["complete", "incomplete"])
async def test_it_is_held_against_the_manifest_before_the_first_hit(tmp_path: Path, pieces: range) -> None:
    await killed(tmp_path, pieces)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        asked = told(rig, KNOWN)
        obj = await rig.lookup.find(WANT)
        assert obj is not None
        assert asked == [1]
        assert [piece for piece in pieces if obj.pieces.state(piece) == ABSENT] == [BAD]
        assert (obj.representation.trust, obj.representation.unsettled) == (Trust.SELF_CONSISTENT, False)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()


async def test_every_client_of_the_first_moment_waits_for_the_same_answer(tmp_path: Path) -> None:
    await killed(tmp_path)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        asked = told(rig, KNOWN, gate := asyncio.Event())
        finding = [asyncio.create_task(rig.lookup.find(WANT)) for _ in range(3)]
        await asked.first.wait()
        await settled()
        assert not any(task.done() for task in finding)
        assert rig.lookup.peek(WANT) is None
        gate.set()
        found = await asyncio.gather(*finding)
        assert asked == [1]
        assert all(obj is found[0] and obj.pieces.state(BAD) == ABSENT for obj in found if obj is not None)


async def test_where_nothing_can_be_learnt_it_goes_out_labelled_as_what_it_is(tmp_path: Path) -> None:
    await killed(tmp_path)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        asked = told(rig, replace(NOTHING, unknown=True))
        obj = await rig.lookup.find(WANT)
        assert obj is not None
        assert (obj.representation.trust, obj.representation.unsettled) == (Trust.SIMPLE, True)
        assert obj.pieces.pieces_in_state(0, 4, STORED) == [0, 1, 2, 3]
        rig.judge.begin_era()
        assert await rig.lookup.find(WANT) is obj
        assert asked == [1], "hits wait once; the background asks again"


async def test_a_mute_manifest_holds_a_hit_up_for_the_hold_timeout_and_the_look_goes_on(tmp_path: Path) -> None:
    await killed(tmp_path)
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(hold_timeout_s=0.01)) as rig:
        told(rig, KNOWN, gate := asyncio.Event())
        obj = await rig.lookup.find(WANT)
        assert obj is not None
        assert obj.pieces.state(BAD) == STORED
        gate.set()
        await rig.idle()
        assert obj.pieces.state(BAD) == ABSENT


async def test_what_this_run_has_made_is_not_asked_about_by_hits(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        asked = told(rig, replace(NOTHING, unknown=True))
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        await rig.idle()
        assert obj.representation.unsettled
        rig.judge.begin_era()
        assert await rig.lookup.find(WANT) is obj
        assert asked == [1]


async def test_a_fill_lasts_until_what_it_stored_was_compared(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        told(rig, KNOWN, gate := asyncio.Event())
        obj = await rig.store.create(REP)
        with obj.holding():
            rig.coordinator.reader(obj, WANT, 0, 1, whole=False).close(reached=1)
            (fill,) = rig.fills
            rig.coordinator.reader(obj, WANT, 0, 1, whole=False).close(reached=1)
            assert rig.fills == [fill], "a second fill would fetch what the first one withdraws"
            gate.set()
        await rig.assert_clean()
        assert REP.object_id == object_id(REP.key)


@pytest.mark.parametrize("trust", [Trust.ANCHORED, Trust.SIMPLE])
async def test_an_object_says_that_a_piece_was_not_compared_before_it_is_stored(tmp_path: Path, trust: Trust) -> None:
    labelled = replace(REP, trust=trust, hash_of_hashes="ab" * 32 if trust else None, unsettled=False)
    async with filling(tmp_path, ScriptedUpstream(SPOILT), options=quick(hold_timeout_s=0.001)) as rig:
        told(rig, KNOWN, gate := asyncio.Event())
        obj = await rig.store.create(labelled)
        with obj.holding():
            await put_pieces(rig.store, obj, [0], BODY)
            assert await rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False) == bytes(PIECE)
            found = ObjectFile.open(obj.file.path)
            assert found is not None
            left = found.representation
            found.close()
            assert (left.trust, left.hash_of_hashes, left.unsettled) == (Trust.SIMPLE, None, True)
            gate.set()
            await rig.idle()
            assert obj.pieces.state(BAD) == ABSENT
            assert (obj.representation.trust, obj.representation.unsettled) == (Trust.SELF_CONSISTENT, False)
        await rig.assert_clean()
