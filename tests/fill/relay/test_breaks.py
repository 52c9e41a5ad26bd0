"""Relayed bodies that break, or go on too long."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import BadAnswer, UpstreamTimeout, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.core.memory_budget import MemoryBudget
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, RelayedBody
from tests.fill.relay.test_relayed_body import BODY, CHECKED, WANT, body_of, read
from tests.support.filling import filling
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE


async def test_a_piece_that_came_resets_the_tries(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(break_after=PIECE + 10)] * 3)
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 0, len(BODY), tries=2)) == BODY
        assert len(upstream.requests) == 4


@pytest.mark.parametrize("more", [0, 1, 5000])
@pytest.mark.parametrize("in_prefix", [True, False])
async def test_a_body_that_goes_on_after_the_content_is_no_whole(tmp_path: Path, more: int, in_prefix: bool) -> None:
    upstream = ScriptedUpstream(BODY + bytes(more))
    async with filling(tmp_path, upstream) as rig:
        answer = await rig.asker.send(WANT)
        prefix = b""
        while in_prefix and (data := await answer.read()):
            prefix += data
        body = RelayedBody(rig.relay, WANT, CHECKED, BodySpan(0, None, None), opened=OpenBody(answer, 0, prefix))
        out = bytearray()
        if more:
            with pytest.raises(BadAnswer):
                await read(body, out)
        else:
            await read(body, out)
        assert out == BODY
        assert upstream.unclosed == 0


@pytest.mark.parametrize("authentic", [True, False])
async def test_a_whole_that_is_right_counts_under_the_level_of_its_claim(tmp_path: Path, authentic: bool) -> None:
    claim = Claim("name", authentic=authentic, sha1=hashlib.sha1(BODY).digest())
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        body = body_of(rig, 0, len(BODY), metadata=Metadata(None, Trust.SIMPLE, (claim,)))
        assert await read(body) == BODY
        word = (Trust.ANCHORED if authentic else Trust.SELF_CONSISTENT).word
        assert rig.meter.counts["verified", word, "ok"] == 1


async def test_an_answer_that_breaks_while_it_is_collected_is_closed(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(break_after=10, failure=UpstreamTimeout("silent")))
    async with filling(tmp_path, upstream) as rig:
        answer = await rig.asker.send(WANT)
        with pytest.raises(UpstreamTimeout):
            await BodyBuffer(limit_bytes=1000, budget=MemoryBudget(4000)).collect(answer, "", limit_s=5.0)
        assert upstream.unclosed == 0


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("length", [PIECE, 2 * PIECE, len(BODY)])
async def test_the_last_piece_of_a_body_without_a_length_waits_for_the_digest_of_the_whole(
    tmp_path: Path, length: int, right: bool
) -> None:
    body, out = BODY[:length], bytearray()
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(body if right else b"another").digest())
    async with filling(tmp_path, ScriptedUpstream(body)) as rig, asyncio.timeout(20):
        opened = OpenBody(await rig.asker.send(WANT), 0)
        known = Metadata(None, Trust.SIMPLE, (claim,))
        relayed = RelayedBody(rig.relay, WANT, known, BodySpan(0, None, None), opened=opened)
        if right:
            assert await read(relayed, out) == body
        else:
            with pytest.raises(WrongContent):
                await read(relayed, out)
            assert out == body[: (length - 1) // PIECE * PIECE]
