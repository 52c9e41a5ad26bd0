"""Looking for a manifest: the first source with a fitting one, what anchors say of it, how long none is believed."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import ConnectFailed, TruncatedBody
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.blame import OF_THIS_OBJECT, Evidence
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.core.request.service import ManifestRule
from cacheserver.core.request.target import Target
from cacheserver.fill import metadata as room
from cacheserver.fill.metadata import Metadata
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, want_for
from tests.support.manifests import manifest_of, phf
from tests.support.scripted import ScriptedUpstream, Turn

SIZE = 1 << 14
"""The least that a manifest may have."""

BODY = blob(51, 3 * SIZE + 100)
MANIFEST = manifest_of(BODY, SIZE)
RULED = msgspec.structs.replace(
    SHIPPED, manifests=(ManifestRule(path="/a", url="{base}/hash"),), sources=("http://mirror.test",)
)
WANT = want_for("a", service=RULED)


def admit(_url: str) -> Target:
    return want_for("a/hash", service=RULED).target


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(phf(BODY, SIZE))


async def fetched(rig: Rig, *, length_bytes: int | None = len(BODY)) -> Metadata:
    return await rig.fetcher.fetch(WANT, Fields(()), secure=False, length_bytes=length_bytes)


@pytest.mark.parametrize("length_bytes", [len(BODY), None])
async def test_a_fitting_manifest_is_used(tmp_path: Path, upstream: ScriptedUpstream, length_bytes: int | None) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        assert await fetched(rig, length_bytes=length_bytes) == Metadata(MANIFEST, Trust.SELF_CONSISTENT)
        assert rig.meter.counts["manifest", "self_consistent"] == 1
        assert upstream.unclosed == 0


async def test_a_manifest_is_expected_where_a_rule_of_the_service_names_one(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        assert rig.fetcher.expects_manifest(WANT.target)
        assert not rig.fetcher.expects_manifest(want_for("b", service=RULED).target)


@pytest.mark.parametrize(
    "turn", [Turn(status=404), Turn(flip=True), Turn(refuse=ConnectFailed("no")), Turn(status=503)]
)
async def test_another_source_is_asked_where_one_has_no_fitting_manifest(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn
) -> None:
    if turn.refuse is not None:
        turn.refuse.source = "http://a.test:80"
    upstream.script.append(turn)
    async with filling(tmp_path, upstream, admit=admit) as rig:
        assert (await fetched(rig)).manifest == MANIFEST
        assert [request.place.host for request in upstream.requests] == ["a.test", "mirror.test"]
        assert upstream.unclosed == 0


async def test_that_there_is_none_is_believed_for_a_while(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(status=404)] * 2)
    async with filling(tmp_path, upstream, admit=admit) as rig:
        for wait_s, requests in ((0, 2), (2.9, 2), (0.2, 3)):
            rig.clock.now_s += wait_s
            found = await fetched(rig)
            assert (found.manifest is None, len(upstream.requests)) == (requests == 2, requests)
        assert rig.meter.counts["manifest", "absent"] == 1
        assert not found.blocked


async def test_every_source_is_asked_once_where_none_can_be_reached(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    for name in ("a", "mirror"):
        error = ConnectFailed("no")
        error.source = f"http://{name}.test:80"
        upstream.script.append(Turn(refuse=error))
    async with filling(tmp_path, upstream, admit=admit) as rig:
        assert (await fetched(rig)).manifest is None
        assert len(upstream.requests) == 2
        assert rig.meter.counts["manifest", "absent"] == 1


@pytest.mark.parametrize("authentic", [True, False])
@pytest.mark.parametrize("length_bytes", [len(BODY), len(BODY) + 1, None])
async def test_a_length_that_was_signed_is_the_contents_or_no_byte_is_taken(
    tmp_path: Path, upstream: ScriptedUpstream, authentic: bool, length_bytes: int | None
) -> None:
    claim = Claim("catalogue", authentic=authentic, length_bytes=length_bytes)
    upstream.script.extend([Turn(status=404)] * 2)
    async with filling(tmp_path, upstream, admit=admit, anchor=SayingAnchor(claim)) as rig:
        found = await fetched(rig)
        contradicts = authentic and length_bytes == len(BODY) + 1
        assert (bool(found.blocked), found.claims) == (contradicts, (claim,))
        assert rig.meter.counts["manifest", "contradicts"] == contradicts


@pytest.mark.parametrize("right", [True, False])
async def test_a_hash_of_hashes_that_was_signed_anchors_the_manifest_or_refuses_it(
    tmp_path: Path, upstream: ScriptedUpstream, right: bool
) -> None:
    claim = Claim("catalogue", authentic=True, hash_of_hashes=MANIFEST.hash_of_hashes if right else bytes(32))
    async with filling(tmp_path, upstream, admit=admit, anchor=SayingAnchor(claim)) as rig:
        found = await fetched(rig)
        assert (found.manifest is not None, found.anchored) == (right, right)
        assert rig.meter.counts["manifest", "anchored" if right else "contradicts"] == 1
        assert len(upstream.requests) == (1 if right else 2), "another source may have the right one"


async def test_a_look_up_that_takes_too_long_ends_without_a_manifest(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_DEADLINE_S", 0.01)
    anchor = SayingAnchor(gate=asyncio.Event())
    async with filling(tmp_path, upstream, admit=admit, anchor=anchor) as rig:
        assert await fetched(rig) == replace(room.NOTHING, unknown=True)
        assert rig.meter.counts["manifest", "timeout"] == 1
    upstream.script.append(Turn(head_gate=asyncio.Event()))
    async with filling(tmp_path / "other", upstream, admit=admit) as rig:
        assert await fetched(rig) == replace(room.NOTHING, unknown=True), "the anchors had nothing to say"


async def test_what_a_catalogue_says_holds_where_a_service_takes_too_long(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_DEADLINE_S", 0.01)
    signed = Claim("catalogue", authentic=True, sha1=SHA1)
    anchor = SayingAnchor(signed)
    anchor.remote_gate = asyncio.Event()
    async with filling(tmp_path, upstream, admit=admit, anchor=anchor) as rig:
        found = await fetched(rig)
        assert (found.claims, found.unknown, found.anchored) == ((signed,), True, True)
        again = await rig.fetcher.again(found, WANT, Fields(()), secure=False, length_bytes=len(BODY))
        assert (again.claims, again.unknown) == ((signed,), True)


SHA1 = hashlib.sha1(BODY).digest()


@pytest.mark.parametrize(
    ("trust", "claims", "anchored"),
    [
        (Trust.ANCHORED, (), True),
        (Trust.SELF_CONSISTENT, (), False),
        (Trust.SIMPLE, (Claim("name", authentic=True, sha1=SHA1),), True),
        (Trust.SIMPLE, (Claim("name", authentic=False, sha1=SHA1),), False),
        (Trust.SIMPLE, (Claim("name", authentic=True, length_bytes=5),), False),
    ],
)
def test_content_is_anchored_by_its_pieces_or_as_a_whole(
    trust: Trust, claims: tuple[Claim, ...], anchored: bool
) -> None:
    assert Metadata(None, trust, claims).anchored is anchored


async def test_an_empty_content_that_has_a_manifest_is_refused(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        found = await fetched(rig, length_bytes=0)
        assert (found.manifest, bool(found.blocked)) == (None, True)


@pytest.mark.parametrize(
    ("turn", "unknown"),
    [
        (Turn(status=404), False),
        (Turn(status=503), True),
        (Turn(refuse=ConnectFailed("no")), True),
        (Turn(break_after=20, failure=TruncatedBody("cut")), True),
    ],
    ids=["404", "503", "no connection", "cut"],
)
async def test_a_manifest_that_could_not_be_fetched_is_unknown_and_one_that_is_not_there_is_none(
    tmp_path: Path, upstream: ScriptedUpstream, turn: Turn, unknown: bool
) -> None:
    upstream.script.extend([turn] * 2)
    async with filling(tmp_path, upstream, admit=admit) as rig:
        for _ in range(2):
            assert await fetched(rig) == replace(room.NOTHING, unknown=unknown)
        assert len(upstream.requests) <= 2, "it is remembered as what it was"


@pytest.mark.parametrize("coding", ["gzip", "identity", None])
async def test_no_manifest_speaks_of_coded_bytes(
    tmp_path: Path, upstream: ScriptedUpstream, coding: str | None
) -> None:
    coded = Fields((("Content-Encoding", coding),) if coding is not None else ())
    async with filling(tmp_path, upstream, admit=admit) as rig:
        found = await rig.fetcher.fetch(WANT, coded, secure=False, length_bytes=len(BODY))
        assert (found.manifest is None) is (coding == "gzip")


@pytest.mark.parametrize("known", [True, False])
async def test_what_an_anchor_could_not_say_is_unknown_whatever_the_manifest_is(
    tmp_path: Path, upstream: ScriptedUpstream, known: bool
) -> None:
    anchor = SayingAnchor()
    anchor.told = Statements.of((), () if known else ("content_policy",))
    upstream.script.extend([Turn(), Turn(status=404), Turn(status=404)])
    async with filling(tmp_path, upstream, admit=admit, anchor=anchor) as rig:
        found = [await fetched(rig), await fetched(rig)]
        assert [each.manifest is not None for each in found] == [True, False]
        assert [each.unknown for each in found] == [not known] * 2


async def test_a_signed_length_contradicts_no_content_whose_length_is_not_known_yet(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    anchor = SayingAnchor(Claim("catalogue", authentic=True, length_bytes=len(BODY)))
    async with filling(tmp_path, upstream, admit=admit, anchor=anchor) as rig:
        assert not (await fetched(rig, length_bytes=None)).blocked


@pytest.mark.parametrize("evidence", Evidence)
async def test_whose_bytes_of_a_content_were_wrong_is_asked_last_for_its_manifest(
    tmp_path: Path, upstream: ScriptedUpstream, evidence: Evidence
) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        rig.asker.blame("http://a.test:80", evidence, WANT.target.object_id)
        rig.asker.blame("http://mirror.test:80", evidence, "another content")
        await fetched(rig)
        assert upstream.requests[0].place.host == ("mirror.test" if evidence in OF_THIS_OBJECT else "a.test")
