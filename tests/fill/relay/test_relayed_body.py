"""Bodies straight from a source: verified, from another source where one is wrong, shown early only on a slow link."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import BadPiece, TruncatedBody, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.asking import Ask, Opened
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.fill.relay.relayed_body import BodySpan, RelayedBody
from tests.support.content import blob
from tests.support.filling import SHIPPED, Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, representation

BODY = blob(41, 4 * PIECE + 100)
REP = representation("a", len(BODY))
TWO = msgspec.structs.replace(SHIPPED, sources=("http://mirror.test",))
WANT = want_for("a", service=TWO)
CHECKED = Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)
OTHER_NAME = Claim("catalogue", authentic=True, sha1=hashlib.sha1(b"another").digest())


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


def asking(rig: Rig) -> Ask:
    async def ask(start: int, stop: int, avoid: frozenset[str]) -> Opened:
        return await rig.asker.ask_span(WANT, REP, start, stop, avoid)

    return ask


def body_of(rig: Rig, start: int, stop: int, *, metadata: Metadata = CHECKED, tries: int = 1) -> RelayedBody:
    return RelayedBody(rig.relay, WANT, metadata, BodySpan(start, stop, len(BODY)), ask=asking(rig), tries=tries)


async def read(body: RelayedBody, out: bytearray | None = None) -> bytes:
    """Everything that comes out; in ``out`` also what came before an error."""
    out = bytearray() if out is None else out
    try:
        while data := await body.read():
            out += data
    finally:
        body.close()
    return bytes(out)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, len(BODY)), (5, 6), (PIECE - 1, 2 * PIECE + 1), (4 * PIECE, 4 * PIECE + 7)]
)
async def test_exactly_the_span_comes_out(tmp_path: Path, upstream: ScriptedUpstream, start: int, stop: int) -> None:
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, start, stop)) == BODY[start:stop]
        assert upstream.unclosed == 0


async def test_a_bad_piece_and_what_follows_come_from_another_source(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(flip=True))
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 3, 3 * PIECE)) == BODY[3 : 3 * PIECE]
        assert [request.place.host for request in upstream.requests] == ["a.test", "mirror.test"]
        assert ("struck", "False") not in rig.meter.counts, "nothing confirms the manifest"
        assert rig.meter.counts["verified", "self_consistent", "bad"] == 1
        assert upstream.unclosed == 0


async def test_every_source_is_asked_once_and_then_it_is_a_bad_piece(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(flip=True)] * 9)
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(BadPiece):
            await read(body_of(rig, 0, PIECE))
        assert len(upstream.requests) == 2
        assert upstream.unclosed == 0


async def test_a_source_that_breaks_is_asked_again_from_the_piece_in_hand(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(break_after=PIECE + 10), Turn(break_after=10)])
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 0, len(BODY), tries=3)) == BODY
        assert upstream.ranges == [f"{first}-{len(BODY) - 1}" for first in (0, PIECE, PIECE)]
        upstream.script.append(Turn(break_after=10))
        with pytest.raises(TruncatedBody):
            await read(body_of(rig, 0, PIECE))


async def test_bytes_that_nothing_verifies_go_on_where_they_broke_off(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(break_after=PIECE + 10), Turn(ignore_range=True, break_after=PIECE + 20)])
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 3, len(BODY), metadata=NOTHING, tries=3)) == BODY[3:]
        assert upstream.ranges == [f"{first}-{len(BODY) - 1}" for first in (3, PIECE + 13, PIECE + 20)]
        assert rig.meter.received_bytes == 2 * PIECE + 30 + len(BODY) - (PIECE + 20)
        assert upstream.unclosed == 0


async def test_bytes_that_nothing_verifies_are_given_up_after_so_many_breaks(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(break_after=100)] * 9)
    async with filling(tmp_path, upstream) as rig:
        out = bytearray()
        with pytest.raises(TruncatedBody):
            await read(body_of(rig, 0, PIECE, metadata=NOTHING, tries=3), out)
        assert out == BODY[:300]
        assert len(upstream.requests) == 3


async def test_the_last_piece_of_a_wrong_whole_does_not_come_out(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, options=quick(hold_timeout_s=1e-9)) as rig:
        body = body_of(rig, 0, len(BODY), metadata=Metadata(None, Trust.SIMPLE, (OTHER_NAME,)))
        out = bytearray()
        with pytest.raises(WrongContent):
            await read(body, out)
        assert out == BODY[: 4 * PIECE]
        assert rig.meter.counts["struck", "False"] == 1


async def test_a_slow_piece_is_shown_early_but_never_to_its_end(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(flip=True))
    async with filling(tmp_path, upstream, options=quick(hold_timeout_s=1e-9)) as rig:
        body = body_of(rig, 0, 2 * PIECE)
        out = bytearray()
        with pytest.raises(BadPiece):
            await read(body, out)
        assert 0 < len(out) < PIECE
        assert len(upstream.requests) == 1, "its client has seen wrong bytes, and must not get the rest of right ones"


async def test_a_slow_client_is_no_reason_to_show_a_piece_early(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, options=quick(hold_timeout_s=0.2)) as rig:
        body = body_of(rig, 0, len(BODY))
        assert await body.read() == BODY[:PIECE]
        loop = asyncio.get_running_loop()
        took_until_s = loop.time() + 0.25
        while loop.time() < took_until_s:  # noqa: ASYNC110 - the client's time, which nothing announces
            await asyncio.sleep(0.05)
        assert await body.read() == BODY[PIECE : 2 * PIECE]
        body.close()


@pytest.mark.parametrize("metadata", [NOTHING, CHECKED])
@pytest.mark.parametrize("cap", [PIECE // 2, PIECE + 7])
async def test_a_source_that_gives_less_than_asked_is_asked_for_the_rest(
    tmp_path: Path, upstream: ScriptedUpstream, metadata: Metadata, cap: int
) -> None:
    upstream.script.extend([Turn(cap=cap)] * 99)
    async with filling(tmp_path, upstream) as rig:
        assert await read(body_of(rig, 5, 3 * PIECE, metadata=metadata)) == BODY[5 : 3 * PIECE]
        assert len(upstream.requests) > 2
        await rig.assert_clean()
