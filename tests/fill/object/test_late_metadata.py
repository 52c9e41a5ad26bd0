"""Metadata that comes after bytes: what is stored already is judged by it, and loses a label that it has no more."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cacheserver.core.errors import BadPiece, GenerationChanged, NoSource
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.core.piece_map import PRESENT
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.store.object.file import ObjectFile
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation, settled

BODY = blob(26, 4 * PIECE)
REP = representation("a", len(BODY))
WANT = want_for()
RIGHT = Claim("name", authentic=True, sha1=hashlib.sha1(BODY).digest())
WRONG = Claim("name", authentic=True, sha1=bytes(20))


@pytest.mark.parametrize("claim", [RIGHT, WRONG], ids=["right", "wrong"])
async def test_a_complete_object_is_judged_when_it_comes(tmp_path: Path, claim: Claim) -> None:
    anchor = SayingAnchor(claim, gate=(gate := asyncio.Event()))
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(4), BODY)
            rig.coordinator.reader(obj, WANT, 0, 1, whole=False).close(reached=1)
            gate.set()
            await rig.idle()
            assert obj.obsolete is (claim is WRONG)
            assert obj.representation.trust is (Trust.SIMPLE if claim is WRONG else Trust.ANCHORED)
            word = Trust.ANCHORED.word
            assert rig.meter.counts["verified", word, "bad" if claim is WRONG else "ok"] == 1
            assert rig.meter.counts["struck", "False"] == 0, "nobody knows which source gave it"
        await rig.assert_clean()


@pytest.mark.parametrize("demands", [True, False])
@pytest.mark.parametrize("complete", [True, False])
async def test_an_object_that_goes_on_without_metadata_loses_its_label(
    tmp_path: Path, demands: bool, complete: bool
) -> None:
    labelled = replace(REP, trust=Trust.ANCHORED, hash_of_hashes="ab" * 32)
    want = want_for("a", service=msgspec.structs.replace(OWN, require="anchored") if demands else OWN)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await rig.store.create(labelled)
        with obj.holding():
            await put_pieces(rig.store, obj, range(4 if complete else 3), BODY)
            rig.coordinator.reader(obj, want, 0, 1, whole=False).close(reached=1)
            await rig.idle()
            assert obj.obsolete is (demands and not complete)
            if not obj.obsolete:
                kept = (Trust.ANCHORED, "ab" * 32) if complete else (Trust.SIMPLE, None)
                assert (obj.representation.trust, obj.representation.hash_of_hashes) == kept
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("metadata", "expected", "holds"),
    [
        (None, True, True),
        (None, False, False),
        (NOTHING, True, False),
        (Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT), False, True),
        (Metadata(None, Trust.SIMPLE, blocked="no source"), False, True),
    ],
)
def test_bytes_are_held_for_what_is_expected_known_or_blocked(
    metadata: Metadata | None, expected: bool, holds: bool
) -> None:
    state = MetadataState(metadata, expected=expected, piece_size_bytes=PIECE)
    assert (state.holds, state.pending) == (holds, metadata is None)


async def test_the_last_piece_streams_where_nothing_is_said_of_the_whole(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(3), BODY)
            reading = asyncio.create_task(rig.read(obj, WANT, 3 * PIECE, whole=False))
            while not upstream.answers:
                await settled()
            await settled()
            assert not rig.fills[0].progress.holds(3)
            gate.set()
            assert await reading == BODY[3 * PIECE :]
        await rig.assert_clean()


async def test_who_comes_while_metadata_is_awaited_joins_the_fill_that_it_will_be_compared_by(tmp_path: Path) -> None:
    anchor = SayingAnchor(RIGHT, gate=(gate := asyncio.Event()))
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            assert await rig.read(obj, WANT, 0, PIECE, whole=False) == BODY[:PIECE]
            (first,) = rig.fills
            assert await rig.read(obj, WANT, PIECE, 2 * PIECE, whole=False) == BODY[PIECE : 2 * PIECE]
            assert rig.fills == [first], "two fills would not know of each other's claims"
            gate.set()
            await rig.idle()
        await rig.assert_clean()


@pytest.mark.parametrize("right", [True, False])
async def test_a_piece_that_was_here_before_is_repaired_by_its_own_bytes_alone(tmp_path: Path, right: bool) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        await rig.idle()
        rig.store.drop_piece(obj, 2)
        upstream.script.extend([Turn(flip=True)] * (1 if right else 9))
        if right:
            assert await rig.read(obj, WANT) == BODY
        else:
            with pytest.raises(BadPiece):
                await rig.read(obj, WANT)
        await rig.assert_clean()
        assert (obj.pieces.state(2) == PRESENT, obj.kept_digests) == (right, set() if right else {2})
        assert ("struck", "False") not in rig.meter.counts, "nothing authentic vouched for what was stored"


@pytest.mark.parametrize("spoilt", [True, False])
async def test_what_is_stored_is_held_against_a_manifest_that_is_asked_for_again(tmp_path: Path, spoilt: bool) -> None:
    known = [replace(NOTHING, unknown=True), Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)]
    asked = []

    async def fetch(*_args: Any, **_kwargs: Any) -> Metadata:
        asked.append(1)
        return known.pop(0)

    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        rig.fetcher.fetch = fetch  # type: ignore[method-assign]
        named: list[object] = []
        rig.store.notifications.unjudged.append(named.append)
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(4), bytes(len(BODY)) if spoilt else BODY)
            reader = rig.coordinator.reader(obj, WANT, 0, 1, whole=False)
            await settled()
            await rig.coordinator.recheck(obj, WANT)
            assert len(asked) == 1, "its fill has metadata of its own"
            reader.close(reached=1)
            await rig.idle()
            assert named == [obj]
            await rig.coordinator.recheck(obj, WANT)
            assert not rig.fills
            assert obj.pieces.stored_count(0, 4) == (0 if spoilt else 4)
            await rig.store.forget(obj.object_id, reason="purged")
            await rig.coordinator.recheck(obj, WANT)
        assert (len(asked), named) == (2, [obj])
        await rig.assert_clean()


@pytest.mark.parametrize(
    ("told", "gone"),
    [(Statements(), True), (Statements.of((), ("content_policy",)), False), (Statements.of((RIGHT,)), False)],
)
async def test_pieces_are_not_mixed_with_others_once_what_let_them_through_is_said_no_more(
    tmp_path: Path, told: Statements, gone: bool
) -> None:
    anchor = SayingAnchor()
    anchor.told = told
    anchored = replace(REP, trust=Trust.ANCHORED, statements="0" * 16)
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.store.create(anchored)
        await put_pieces(rig.store, obj, range(2), BODY)
        if gone:
            with pytest.raises(GenerationChanged):
                await rig.read(obj, WANT)
        else:
            assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert obj.obsolete is gone


@pytest.mark.parametrize("demands", [True, False])
async def test_where_an_anchor_is_mute_nothing_new_is_stored_for_a_service_that_demands_one(
    tmp_path: Path, demands: bool
) -> None:
    anchor = SayingAnchor()
    anchor.told = Statements.of((), ("content_policy",))
    want = want_for("a", service=msgspec.structs.replace(OWN, require="anchored") if demands else OWN)
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.store.create(REP)
        if demands:
            with pytest.raises(NoSource):
                await rig.read(obj, want)
        else:
            assert await rig.read(obj, want) == BODY
        await rig.assert_clean()
        assert obj.pieces.complete is not demands


async def test_nothing_more_is_stored_once_a_stop_has_begun_while_metadata_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing, go_on, erase = threading.Event(), threading.Event(), ObjectFile.erase

    def slow(file: ObjectFile, first: int, stop: int) -> None:
        erasing.set()
        go_on.wait(10)
        erase(file, first, stop)

    monkeypatch.setattr(ObjectFile, "erase", slow)
    anchor, gate, upstream = SayingAnchor(gate=asyncio.Event()), asyncio.Event(), ScriptedUpstream(BODY)
    upstream.script.extend([Turn(), Turn(gate=gate)])
    options = quick(hold_timeout_s=0.001, span_pieces=1, parallel=1)
    async with filling(tmp_path, upstream, anchor=anchor, options=options) as rig:
        obj = await rig.store.create(REP)
        reading = asyncio.create_task(rig.read(obj, WANT, 0, 2 * PIECE, whole=False))
        while obj.pieces.state(0) != PRESENT or len(upstream.answers) < 2:
            await settled()
        stopping = asyncio.create_task(rig.fills[0].checks.stop())
        assert await asyncio.to_thread(erasing.wait, 10)
        gate.set()
        await asyncio.wait((reading,), timeout=0.1)  # the piece waits, so that nothing tells when
        go_on.set()
        await stopping
        assert obj.pieces.stored_count(0, 4) == 0
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await rig.coordinator.stop()
        await rig.assert_clean()


async def test_who_waits_for_metadata_waits_until_it_comes_or_as_long_as_he_may() -> None:
    state = MetadataState(expected=True, piece_size_bytes=PIECE)
    waiting = [asyncio.create_task(state.wait(30)), asyncio.create_task(state.settled())]
    await state.wait(0.001)
    await settled()
    assert [task.done() for task in waiting] == [False, False]
    state.settle(NOTHING)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [None, NOTHING]
