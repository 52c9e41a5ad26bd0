"""The first answer for an object: what is asked for, what of it is claimed, when it may not be stored."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.cache.answer import Asked
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.errors import BadAnswer
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.outcome import Relayed, Stored
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, SHIPPED, filling, want_for
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn
from tests.support.stored import PIECE

BODY = blob(25, 6 * PIECE)
WANT = want_for()
DEMANDING = msgspec.structs.replace(OWN, require="anchored")


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def test_only_the_pieces_that_the_answer_brings_are_claimed(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream) as rig:
        await rig.opened(WANT, (PIECE + 5, PIECE + 6))
        assert upstream.ranges == [f"{PIECE}-{2 * PIECE - 1}"]
        assert set(rig.fills[0].progress.claims) == {1}
        gate.set()
        await rig.assert_clean()


async def test_a_304_that_nobody_asked_for_is_a_fault(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(status=304)] * 9)
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(BadAnswer):
            await rig.coordinator.open(WANT, (0, None))
        assert upstream.unclosed == 0


@pytest.mark.parametrize("anchored", [True, False])
async def test_a_service_that_demands_anchored_content_stores_no_other(
    tmp_path: Path, upstream: ScriptedUpstream, anchored: bool
) -> None:
    claim = Claim("name", authentic=anchored, sha1=hashlib.sha1(BODY).digest())
    want = want_for("a", service=DEMANDING)
    async with filling(tmp_path, upstream, anchor=SayingAnchor(claim)) as rig:
        outcome, _first = await rig.coordinator.open(want, (0, None))
        if anchored:
            assert isinstance(outcome, Stored)
            assert await rig.read(outcome.obj, want) == BODY
            await rig.assert_clean()
            assert outcome.obj.representation.trust is Trust.ANCHORED
        else:
            assert isinstance(outcome, Relayed)
            assert (outcome.reason, outcome.remember) == ("not_anchored", True)
            outcome.answer.close()
            assert await rig.lookup.find(want) is None


async def test_a_source_is_asked_without_a_coding_unless_the_client_names_one(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with filling(tmp_path, upstream) as rig:
        assert rig.asker.upstream_fields(WANT).value("Accept-Encoding") == "identity"
        want = want_for("a", ("Accept-Encoding", "br"))
        assert rig.asker.upstream_fields(want).value("Accept-Encoding") == "br"


@pytest.mark.parametrize(("status", "next_host"), [(200, "a.test"), (404, "a.test"), (503, "mirror.test")])
async def test_only_a_source_that_fails_is_asked_after_others(
    tmp_path: Path, upstream: ScriptedUpstream, status: int, next_host: str
) -> None:
    service = msgspec.structs.replace(SHIPPED, sources=("http://mirror.test",))
    want = want_for("a", service=service)
    upstream.script.append(Turn() if status == 200 else Turn(status=status))
    async with filling(tmp_path, upstream) as rig:
        for _ in range(2):
            (await rig.asker.send(want)).close()
        assert [request.place.host for request in upstream.requests] == ["a.test", next_host]


async def test_a_refusal_names_its_source_and_what_it_means(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(status=403)] * 2)
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(WANT, (0, None))
        assert isinstance(outcome, Answered)
        assert (outcome.status, outcome.body, outcome.source) == (403, b"refused", "http://a.test:80")


@pytest.mark.parametrize(
    ("told", "all_of_it"),
    [("bytes 0-9/10", True), ("bytes 0-8/10", False), ("bytes 1-9/10", False), ("bytes 0-9/*", False), (None, False)],
)
def test_a_partial_answer_covers_all_where_its_content_range_says_so(told: str | None, all_of_it: bool) -> None:
    fields = Fields((("Content-Range", told),) if told is not None else ())
    answer = ScriptedAnswer(206, fields, b"", Turn(), "http://a.test:80")
    assert Relayed(answer, Asked(0, 10), "no-store", remember=False).covers_all is all_of_it
