"""Relayed bodies that break, or go on too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import BadAnswer
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
