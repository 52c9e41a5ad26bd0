"""Answers without a length that are too long to be collected: counted for clients that cannot do without a length."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import BadAnswer, TruncatedBody
from cacheserver.core.memory_budget import MemoryBudget
from cacheserver.core.request.target import Form
from cacheserver.fill.relay.body_buffer import BodyBuffer
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk

BODY = blob(51, 5 * PIECE + 100)
WANT = want_for(service=SHIPPED, form=Form.CACHE_HOST)
LENGTHLESS = Turn(ignore_range=True, chunked=True)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


def with_little_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rig.coordinator._opener._unmeasured,
        "_buffer",
        BodyBuffer(limit_bytes=2 * PIECE, budget=MemoryBudget(8 * PIECE)),
    )


async def test_a_long_answer_is_counted_and_a_second_one_stored(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script.extend([LENGTHLESS] * 2)
    async with filling(tmp_path, upstream) as rig:
        with_little_memory(rig, monkeypatch)
        obj = await rig.opened(WANT, (0, 2))
        assert obj.representation.length_bytes == len(BODY)
        assert await rig.read(obj, WANT) == BODY
        assert len(upstream.requests) == 2
        await rig.assert_clean()


@pytest.mark.parametrize("cut", [PIECE, len(BODY) - 1])
async def test_a_second_answer_of_another_length_is_not_kept(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    short = Turn(ignore_range=True, chunked=True, break_after=cut)
    upstream.script.extend([LENGTHLESS, *[short] * 9])
    async with filling(tmp_path, upstream) as rig:
        with_little_memory(rig, monkeypatch)
        obj = await rig.opened(WANT, (0, 2))
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT)
        assert obj.obsolete
        await rig.assert_clean()


async def test_an_answer_that_takes_too_long_to_count_is_refused_once(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script.extend([LENGTHLESS] * 9)
    async with filling(tmp_path, upstream, options=quick(first_byte_s=1e-9)) as rig:
        with_little_memory(rig, monkeypatch)
        with pytest.raises(BadAnswer):
            await rig.coordinator.open(WANT, (0, 2))
        assert len(upstream.requests) == 1
        await rig.assert_clean()
        assert bytes_on_disk(tmp_path) == 0
