"""What does not speak of the bytes blames nobody: a client that leaves, a node that stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import UpstreamTimeout
from cacheserver.core.integrity.blame import Evidence
from tests.support.content import blob
from tests.support.filling import OWN, filling, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled

BODY = blob(8, 2 * PIECE)
WANT = want_for()
NAMED, OTHER = "http://a.test:80", "http://b.test:80"


async def test_a_request_that_is_cancelled_or_cut_by_the_stop_is_no_failure_of_its_source(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(head_gate=asyncio.Event()))
    async with filling(tmp_path, upstream) as rig:
        asking = asyncio.create_task(rig.opened(WANT))
        await settled()
        asking.cancel()
        await asyncio.wait((asking,))
        await rig.coordinator.stop()
        assert rig.asker._health.order((NAMED, OTHER), rig.clock.monotonic_s()) == [NAMED, OTHER]
        assert rig.asker._health.bans(rig.clock.monotonic_s()) == []
        assert not [key for key in rig.meter.counts if "struck" in key]


async def test_a_source_that_does_not_answer_comes_last_for_a_while(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(refuse=UpstreamTimeout("no")))
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(UpstreamTimeout):
            await rig.asker.send(WANT)
        assert rig.asker._health.order((NAMED, OTHER), rig.clock.monotonic_s()) == [OTHER, NAMED]
        (await rig.asker.send(WANT)).close()
        assert rig.asker._health.order((NAMED, OTHER), rig.clock.monotonic_s()) == [NAMED, OTHER], "until it answers"


async def test_only_a_ban_for_three_objects_refuses_the_named_origin_and_only_what_is_verified(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        for _ in range(3):
            rig.asker.blame(NAMED, Evidence.ANCHORED_PIECE, "one object")
        for number in range(3):
            rig.asker.blame(NAMED, Evidence.NAME, f"{number}")
            rig.asker.blame(NAMED, Evidence.DIGEST_FIELD, f"{number}")
            rig.asker.blame(NAMED, Evidence.PLAIN_PIECE, f"{number}")
        assert rig.asker._health.bans(rig.clock.monotonic_s()) == []
        for number in range(2):
            rig.asker.blame(NAMED, Evidence.ANCHORED_WHOLE, f"{number}")
        assert [ban.source for ban in rig.asker._health.bans(rig.clock.monotonic_s())] == [NAMED]
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY, "content that nothing verifies is not refused"


async def test_what_the_banned_origin_alone_has_is_not_refused_because_another_source_lacks_it(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    want = want_for(service=msgspec.structs.replace(OWN, sources=("http://mirror.test",)))
    async with filling(tmp_path, upstream) as rig:
        for number in range(3):
            rig.asker.blame(NAMED, Evidence.ANCHORED_PIECE, f"{number}")
        upstream.script.append(Turn(status=404))
        obj = await rig.opened(want)
        assert [request.place.host for request in upstream.requests] == ["mirror.test", "a.test"]
        assert await rig.read(obj, want) == BODY


@pytest.mark.parametrize(
    ("evidence", "last", "words"),
    [
        (Evidence.ANCHORED_PIECE, False, ["source_struck", "source_struck", "source_banned"]),
        (Evidence.PLAIN_PIECE, True, ["content_contradicted"] * 3),
        (Evidence.NAME, False, ["content_contradicted"] * 3),
    ],
)
async def test_blame_is_told_and_only_bytes_that_a_plain_manifest_contradicts_demote(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, evidence: Evidence, last: bool, words: list[str]
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        health, now_s = rig.asker._health, rig.clock.monotonic_s()
        rig.asker.blame(OTHER, evidence, "first")
        health.succeeded(OTHER)
        assert (health.order((OTHER, NAMED), now_s) == [NAMED, OTHER]) is last, "an answer does not end it"
        for object_id in ("second", "third"):
            rig.asker.blame(OTHER, evidence, object_id)
        assert [record.message for record in caplog.records] == words
