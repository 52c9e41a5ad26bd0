"""Manifests of what passes: kept for a while for one generation, and only where there is one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Claim, Statements
from cacheserver.core.request.service import ManifestRule
from cacheserver.core.request.target import Target
from cacheserver.fill.relay.pass_metadata import PassMetadata
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, SHIPPED, Rig, filling, want_for
from tests.support.manifests import phf
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn

SIZE = 1 << 14
"""The least that a manifest may have."""

BODY = blob(52, 3 * SIZE + 100)
RULES = (ManifestRule(path="/a", url="{base}/hash"),)
MUTABLE = msgspec.structs.replace(OWN, manifests=RULES)
WANT = want_for("a", service=MUTABLE)
TAGGED = Fields((("ETag", '"1"'),))


def admit(_url: str) -> Target:
    return want_for("a/hash", service=MUTABLE).target


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(phf(BODY, SIZE))


def answered(fields: Fields) -> ScriptedAnswer:
    """An answer of which only the fields count."""
    return ScriptedAnswer(200, fields, b"", Turn(), "http://a.test:80")


def memory_of(rig: Rig) -> PassMetadata:
    return PassMetadata(fetcher=rig.fetcher, clock=rig.clock, piece_size_bytes=SIZE, keep_s=60.0)


async def test_a_generations_manifest_is_kept_for_a_while_and_until_it_is_forgotten(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        memory = memory_of(rig)
        assert memory.expects_manifest(WANT.target)

        async def requests_after(fields: Fields, length_bytes: int | None = len(BODY)) -> int:
            assert (await memory.get(WANT, answered(fields), length_bytes)).manifest is not None
            return len(upstream.requests)

        assert [await requests_after(TAGGED) for _ in range(2)] == [1, 1]
        assert await requests_after(Fields((("ETag", '"2"'),))) == 2, "another generation"
        rig.clock.now_s += 59
        assert await requests_after(TAGGED) == 2
        rig.clock.now_s += 2
        assert await requests_after(TAGGED) == 3
        memory.forget(WANT, TAGGED, len(BODY))
        assert await requests_after(TAGGED) == 4
        memory.clear()
        asking = asyncio.create_task(requests_after(TAGGED))
        await asyncio.sleep(0)
        memory.clear()
        assert await asking == 5
        assert await requests_after(TAGGED) == 6, "what was learnt before is not kept after it"


@pytest.mark.parametrize(
    ("fields", "length_bytes", "immutable", "kept"),
    [
        (Fields(()), len(BODY), False, False),
        (Fields(()), len(BODY), True, True),
        (TAGGED, None, True, False),
        (Fields((("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),)), len(BODY), False, True),
    ],
)
async def test_it_is_kept_where_something_tells_generations_apart(
    tmp_path: Path, upstream: ScriptedUpstream, fields: Fields, length_bytes: int | None, immutable: bool, kept: bool
) -> None:
    service = msgspec.structs.replace(SHIPPED if immutable else OWN, manifests=RULES)
    want = want_for("a", service=service)
    async with filling(tmp_path, upstream, admit=admit) as rig:
        memory = memory_of(rig)
        for _ in range(2):
            await memory.get(want, answered(fields), length_bytes)
        assert len(upstream.requests) == (1 if kept else 2)
        memory.forget(want, fields, length_bytes)


async def test_what_has_no_manifest_or_is_blocked_is_asked_for_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(status=404))
    async with filling(tmp_path, upstream, admit=admit) as rig:
        memory = memory_of(rig)
        assert (await memory.get(WANT, answered(TAGGED), len(BODY))).manifest is None
        rig.clock.now_s += 10
        assert (await memory.get(WANT, answered(TAGGED), len(BODY))).manifest is not None
    signed = SayingAnchor(Claim("catalogue", authentic=True, length_bytes=len(BODY) + 1))
    async with filling(tmp_path / "blocked", upstream, admit=admit, anchor=signed) as rig:
        memory = memory_of(rig)
        assert (await memory.get(WANT, answered(TAGGED), len(BODY))).blocked
        signed.told = Statements.of(())
        rig.clock.now_s += 10
        assert not (await memory.get(WANT, answered(TAGGED), len(BODY))).blocked


async def test_what_is_kept_says_nothing_of_a_coded_answer_of_the_same_length_and_tag(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream, admit=admit) as rig:
        memory = memory_of(rig)
        assert (await memory.get(WANT, answered(TAGGED), len(BODY))).manifest is not None
        coded = TAGGED.with_line("Content-Encoding", "gzip")
        assert (await memory.get(WANT, answered(coded), len(BODY))).manifest is None


@pytest.mark.parametrize("secure", [True, False])
async def test_anchors_are_told_whether_tls_carried_what_passes(
    tmp_path: Path, upstream: ScriptedUpstream, secure: bool
) -> None:
    heard: list[bool] = []

    class Hearing(SayingAnchor):
        async def claims(self, *args: Any, secure: bool = False, **more: Any) -> Statements:
            heard.append(secure)
            return await super().claims(*args, secure=secure, **more)

    async with filling(tmp_path, upstream, admit=admit, anchor=Hearing()) as rig:
        answer = answered(TAGGED)
        answer.secure = secure
        await memory_of(rig).get(WANT, answer, len(BODY))
    assert heard == [secure]
