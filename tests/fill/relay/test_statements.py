"""What passes is held against statements about pieces of any size, about the whole alone, and about no byte at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import UpstreamError, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, RelayedBody
from tests.fill.relay.test_relayed_body import BODY, WANT, body_of, read
from tests.support.filling import filling
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream
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
