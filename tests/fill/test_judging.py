"""Stored objects are judged again when what is said of them changes, before they are given out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import GenerationChanged, UpstreamTimeout
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.fill import judging
from cacheserver.store.stored_object import StoredObject
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, Rig, filling, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream
from tests.support.stored import PIECE, put, representation, settled

LENGTH = 3 * PIECE
BODY = blob(7, LENGTH)
WANT = want_for()
STRICT = want_for(service=msgspec.structs.replace(OWN, require="anchored"))
RIGHT_SHA1 = Claim("catalogue", authentic=True, sha1=hashlib.sha1(BODY).digest())
WRONG_SHA1 = Claim("catalogue", authentic=True, sha1=bytes(20))
WRONG_LENGTH = Claim("catalogue", authentic=True, length_bytes=LENGTH + 1, sha1=bytes(20))


async def stored(rig: Rig) -> StoredObject:
    """A whole object without any trust."""
    obj = await rig.opened(WANT)
    assert await rig.read(obj, WANT) == BODY
    await rig.idle()
    assert rig.lookup.peek(WANT) is obj
    return obj


def say(rig: Rig, anchor: SayingAnchor, *claims: Claim, unknown: tuple[str, ...] = ()) -> None:
    """The anchor says something else from now on, and the settings were read again."""
    anchor.told = Statements.of(claims, unknown)
    rig.judge.begin_era()


async def test_what_a_new_entry_contradicts_at_once_is_not_given_out_once_more(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        say(rig, anchor, WRONG_LENGTH)
        assert rig.lookup.peek(WANT) is None
        assert await rig.lookup.find(WANT) is None
        assert obj.obsolete
        assert [key for key in rig.meter.counts if "contradicted" in key]


async def test_what_only_reading_can_tell_is_read_behind_the_answer(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        named: list[StoredObject] = []
        rig.store.notifications.unjudged.append(named.append)
        say(rig, anchor, WRONG_SHA1)
        assert await rig.lookup.find(WANT) is obj
        assert named == [obj]
        assert not (await rig.judge.judge(obj, WANT.target)).given
        assert obj.obsolete


async def test_a_claim_that_fits_lifts_the_trust_and_is_remembered(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        say(rig, anchor, RIGHT_SHA1)
        outcome = await rig.judge.judge(obj, WANT.target)
        assert (outcome.given, outcome.settled, outcome.read_bytes) == (True, True, LENGTH)
        assert obj.representation.trust is Trust.ANCHORED
        assert rig.lookup.peek(WANT) is obj
        rig.judge.begin_era()
        assert rig.lookup.peek(WANT) is None, "a change of settings is looked at"
        assert await rig.lookup.find(STRICT) is obj, "and is none for this object"
        say(rig, anchor)
        await rig.judge.judge(obj, WANT.target)
        assert obj.representation.trust < Trust.ANCHORED, "it goes with its entry"


async def test_what_is_not_anchored_is_removed_before_it_is_given_out_where_an_anchor_is_demanded(
    tmp_path: Path,
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await stored(rig)
        rig.judge.begin_era()
        assert await rig.lookup.find(STRICT) is None
        assert obj.obsolete


@pytest.mark.parametrize("claim", [RIGHT_SHA1, WRONG_SHA1])
async def test_a_demanding_hit_waits_for_the_digest_of_the_whole(tmp_path: Path, claim: Claim) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        say(rig, anchor, claim)
        assert await rig.lookup.find(STRICT) is (obj if claim is RIGHT_SHA1 else None)


async def test_where_an_anchor_is_mute_a_demanding_hit_is_withheld_and_nothing_is_settled(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        say(rig, anchor, unknown=("content_policy",))
        assert await rig.lookup.find(STRICT) is None
        assert not obj.obsolete
        anchor.told = Statements.of((RIGHT_SHA1,))
        assert await rig.lookup.find(STRICT) is obj


async def test_a_demanding_hit_does_not_wait_longer_than_its_client_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "PATIENCE_S", 0.05)
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        anchor.remote_gate = asyncio.Event()
        say(rig, anchor, RIGHT_SHA1)
        with pytest.raises(UpstreamTimeout):
            await rig.lookup.find(STRICT)
        anchor.remote_gate.set()
        await rig.judge.judge(obj, STRICT.target)
        assert rig.lookup.peek(STRICT) is obj


async def test_a_restart_finds_what_has_changed_and_what_has_not(tmp_path: Path) -> None:
    anchor = SayingAnchor(RIGHT_SHA1)
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        assert (await stored(rig)).representation.trust is Trust.ANCHORED
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.lookup.find(STRICT)
        assert obj is not None
        assert rig.judge.is_judged(obj)
    anchor.told = Statements.of((WRONG_LENGTH,))
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        assert await rig.lookup.find(WANT) is None


async def test_an_object_that_was_judged_while_incomplete_is_judged_once_more_after_its_fill(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.opened(WANT, (0, PIECE))
        await rig.idle()
        assert not obj.pieces.complete
        say(rig, anchor, replace(RIGHT_SHA1, sha1=None, length_bytes=LENGTH))
        await rig.judge.judge(obj, WANT.target)
        assert rig.judge.is_judged(obj)
        named: list[StoredObject] = []
        rig.store.notifications.unjudged.append(named.append)
        await rig.read(obj, WANT)
        await rig.idle()
        assert named == [obj]
        assert not rig.judge.is_judged(obj)


async def test_judging_that_is_cancelled_settles_nothing(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        say(rig, anchor, RIGHT_SHA1)
        anchor.gate = asyncio.Event()
        task = asyncio.create_task(rig.judge.judge(obj, WANT.target))
        await settled()
        await rig.judge.stop()
        await asyncio.wait((task,))
        assert not rig.judge.is_judged(obj)
        assert obj.representation.statements == ""
        assert obj.representation.trust is Trust.SIMPLE
        assert not obj.obsolete


async def test_fields_that_did_not_come_over_tls_alone_are_no_anchor_after_a_revalidation_either(
    tmp_path: Path,
) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream) as rig:
        obj = await stored(rig)
        with obj.holding():
            await rig.store.refresh(obj, replace(obj.representation, secure=True))
            await rig.revalidation.run(obj, WANT)
        assert not obj.representation.secure


async def test_an_object_of_another_generation_is_not_given_out(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await put(rig.store, representation("a", LENGTH))
        await rig.store.forget(obj.object_id, reason="purged")
        rig.judge.begin_era()
        assert not (await rig.judge.judge(obj, WANT.target)).given


@pytest.mark.parametrize("size", [1 << 14, 1 << 15, 1 << 20, None])
async def test_a_signed_hash_of_hashes_may_be_of_pieces_of_any_size(tmp_path: Path, size: int | None) -> None:
    anchor, body = SayingAnchor(), blob(8, 40_000)
    async with filling(tmp_path, ScriptedUpstream(body), anchor=anchor) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == body
        await rig.idle()
        signed = bytes(32) if size is None else manifest_of(body, size).hash_of_hashes
        say(rig, anchor, Claim("catalogue", authentic=True, hash_of_hashes=signed))
        assert (await rig.judge.judge(obj, WANT.target)).given is (size is not None)
        assert (obj.representation.trust is Trust.ANCHORED) is (size is not None)
        assert obj.obsolete is (size is None)


async def test_who_is_being_sent_what_is_contradicted_is_cut(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await stored(rig)
        with obj.holding():
            before = len(obj.condemned)
            say(rig, anchor, WRONG_SHA1)
            assert not (await rig.judge.judge(obj, WANT.target)).given
            assert obj.is_spoilt(before, 0, 1), "a sender looks at this before each part"
            with pytest.raises(GenerationChanged):
                obj.refuse_gone()


async def test_what_a_mute_anchor_leaves_open_is_given_out_and_asked_about_again(tmp_path: Path) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj, named = await stored(rig), list[StoredObject]()
        rig.store.notifications.unjudged.append(named.append)
        say(rig, anchor, unknown=("content_policy",))
        outcome = await rig.judge.judge(obj, WANT.target)
        assert (outcome.given, outcome.settled, named) == (True, False, [obj])
        assert not rig.judge.is_judged(obj)


async def test_an_object_that_was_left_open_before_a_restart_is_asked_about_again_at_its_next_hit(
    tmp_path: Path,
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj, named = await stored(rig), list[StoredObject]()
        rig.store.notifications.unjudged.append(named.append)
        for unsettled in (False, True):
            with obj.holding():
                await rig.store.refresh(obj, replace(obj.representation, unsettled=unsettled))
            rig.judge.begin_era()
            assert await rig.lookup.find(WANT) is obj
            assert named == [obj] * unsettled


@pytest.mark.parametrize("claim", [WRONG_SHA1, WRONG_LENGTH, replace(WRONG_SHA1, sha1=None, hash_of_hashes=bytes(32))])
async def test_what_is_said_of_the_content_says_nothing_of_its_coded_form_at_rest_either(
    tmp_path: Path, claim: Claim
) -> None:
    anchor = SayingAnchor(claim)
    async with filling(tmp_path, ScriptedUpstream(BODY, fields=(("Content-Encoding", "gzip"),)), anchor=anchor) as rig:
        want = want_for("a", ("Accept-Encoding", "gzip"))
        obj = await rig.opened(want)
        assert await rig.read(obj, want) == BODY
        await rig.idle()
        rig.judge.begin_era()
        assert await rig.lookup.find(want) is obj
        assert (await rig.judge.judge(obj, want.target)).given
        anchor.told = Statements.of((replace(claim, anchor="digest_field", length_bytes=None, sha1=bytes(20)),))
        assert not (await rig.judge.judge(obj, want.target)).given, "a digest field speaks of the coded bytes"


@pytest.mark.parametrize("now", [WRONG_SHA1, RIGHT_SHA1], ids=["wrong", "right"])
async def test_who_asks_after_a_change_does_not_join_a_judgement_by_what_was_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: Claim
) -> None:
    before = RIGHT_SHA1 if now is WRONG_SHA1 else WRONG_SHA1
    anchor, gate = SayingAnchor(), asyncio.Event()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj, really = await stored(rig), rig.store.whole_digests
        reading = []

        async def slow(obj: StoredObject, names: Sequence[str]) -> dict[str, bytes]:
            reading.append(names)
            if len(reading) == 1:
                await gate.wait()
            return await really(obj, names)

        monkeypatch.setattr(rig.store, "whole_digests", slow)
        say(rig, anchor, before)
        judging_before = asyncio.create_task(rig.judge.judge(obj, STRICT.target))
        while not reading:
            await settled()
        say(rig, anchor, now)
        async with asyncio.timeout(10):
            found = await rig.lookup.find(STRICT)
        assert (found is obj) is (now is RIGHT_SHA1)
        gate.set()
        assert (await judging_before).given is (now is RIGHT_SHA1), "it is judged by what is said now"
        assert obj.obsolete is (now is WRONG_SHA1)
