"""What passes is held against statements about pieces of any size, about the whole alone, and about no byte at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import BadAnswer, UpstreamError, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, RelayedBody
from tests.fill.relay.test_relayed_body import BODY, WANT, asking, body_of, read
from tests.support.filling import filling
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE

WRONG = bytes((BODY[0] ^ 1,)) + BODY[1:]


@pytest.mark.parametrize("size", [PIECE // 2, PIECE, 4 * PIECE, 16 * PIECE])
@pytest.mark.parametrize("sent", [BODY, WRONG], ids=["right", "wrong"])
async def test_a_manifest_in_pieces_of_any_size_verifies_what_passes(tmp_path: Path, size: int, sent: bytes) -> None:
    known, out = Metadata(manifest_of(BODY, size), Trust.SELF_CONSISTENT), bytearray()
    async with filling(tmp_path, ScriptedUpstream(sent)) as rig:
        if sent == BODY:
            assert await read(body_of(rig, 0, len(BODY), metadata=known)) == BODY
        else:
            with pytest.raises(UpstreamError):
                await read(body_of(rig, 0, len(BODY), metadata=known), out)
            assert out == b"", "the wrong byte is the first one"


@pytest.mark.parametrize("size", [1 << 14, 1 << 20])
@pytest.mark.parametrize("sent", [BODY, WRONG], ids=["right", "wrong"])
async def test_a_hash_of_hashes_alone_is_compared_with_what_has_passed(tmp_path: Path, size: int, sent: bytes) -> None:
    claim = Claim("catalogue", authentic=True, hash_of_hashes=manifest_of(BODY, size).hash_of_hashes)
    known, out = Metadata(None, Trust.SIMPLE, (claim,)), bytearray()
    async with filling(tmp_path, ScriptedUpstream(sent)) as rig:
        if sent == BODY:
            assert await read(body_of(rig, 0, len(BODY), metadata=known)) == BODY
        else:
            with pytest.raises(WrongContent):
                await read(body_of(rig, 0, len(BODY), metadata=known), out)
            assert len(out) < len(BODY)


@pytest.mark.parametrize("length", [0, None], ids=["announced", "not announced"])
@pytest.mark.parametrize("right", [True, False])
async def test_an_empty_body_that_passes_is_judged_as_any_other(
    tmp_path: Path, length: int | None, right: bool
) -> None:
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(b"" if right else BODY).digest())
    async with filling(tmp_path, ScriptedUpstream(b"")) as rig:
        opened = OpenBody(await rig.asker.send(WANT), 0)
        known = Metadata(None, Trust.SIMPLE, (claim,))
        body = RelayedBody(rig.relay, WANT, known, BodySpan(0, length, length), opened=opened)
        if right:
            assert await read(body) == b""
        else:
            with pytest.raises(WrongContent):
                await read(body)


@pytest.mark.parametrize(
    ("size", "start", "stop", "taken"),
    [
        (PIECE, 0, len(BODY), True),
        (PIECE, PIECE, 2 * PIECE, True),
        (PIECE, PIECE + 5, 2 * PIECE, False),
        (4 * PIECE, 0, len(BODY), True),
        (4 * PIECE, 0, PIECE, False),
    ],
    ids=["all", "from a piece on", "from inside a piece on", "all in larger pieces", "part of a larger piece"],
)
@pytest.mark.parametrize("may_ask", [True, False])
async def test_an_answer_with_too_little_of_a_piece_is_given_back_and_whole_pieces_are_asked_for(
    tmp_path: Path, size: int, start: int, stop: int, taken: bool, may_ask: bool
) -> None:
    upstream, known = ScriptedUpstream(BODY), Metadata(manifest_of(BODY, size), Trust.SELF_CONSISTENT)
    async with filling(tmp_path, upstream) as rig:
        first = await rig.asker.send(WANT, extra=(("Range", f"bytes={start}-{stop - 1}"),))
        span, opened = BodySpan(start, stop, len(BODY)), OpenBody(first, start)
        ask = asking(rig) if may_ask else None
        if not taken and not may_ask:
            with pytest.raises(BadAnswer):
                RelayedBody(rig.relay, WANT, known, span, opened=opened)
        else:
            assert await read(RelayedBody(rig.relay, WANT, known, span, opened=opened, ask=ask)) == BODY[start:stop]
            assert len(upstream.requests) == (1 if taken else 2)
            wider = f"{start // size * size}-{min(-(-stop // size) * size, len(BODY)) - 1}"
            assert taken or upstream.ranges[1] == wider
        assert upstream.unclosed == 0


@pytest.mark.parametrize("trust", [Trust.ANCHORED, Trust.SELF_CONSISTENT])
async def test_a_bad_piece_that_passes_is_a_strike_where_the_manifest_is_anchored(tmp_path: Path, trust: Trust) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(flip=True))
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 0, PIECE, metadata=Metadata(manifest_of(BODY, PIECE), trust))) == BODY[:PIECE]
        assert rig.meter.counts["struck", "False"] == (trust is Trust.ANCHORED)
        counts = [rig.meter.counts["verified", trust.word, word] for word in ("bad", "ok")]
        assert counts == [1, 1]
