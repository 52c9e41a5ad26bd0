"""What is said of a content while it passes holds for its end: nobody gets a whole that a statement contradicts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import UpstreamError, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, RelayedBody
from tests.fill.relay.test_relayed_body import BODY, WANT, asking, read
from tests.support.filling import filling
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream
from tests.support.stored import PIECE

MANIFEST = manifest_of(BODY, PIECE)
BY_PIECES = Metadata(MANIFEST, Trust.SELF_CONSISTENT)
ANCHORED = Metadata(
    MANIFEST, Trust.ANCHORED, (Claim("catalogue", authentic=True, hash_of_hashes=MANIFEST.hash_of_hashes),)
)


def named(data: bytes, anchor: str = "catalogue") -> Metadata:
    """A catalogue, or another anchor, has a digest of the whole."""
    return Metadata(None, Trust.SIMPLE, (Claim(anchor, authentic=True, sha256=hashlib.sha256(data).digest()),))


@pytest.mark.parametrize("span", [BodySpan(0, len(BODY), len(BODY)), BodySpan(0, None, None)], ids=["length", "none"])
@pytest.mark.parametrize(
    ("known", "now", "ends"),
    [
        (NOTHING, NOTHING, True),
        (NOTHING, named(b"other"), False),
        (NOTHING, named(BODY), False),
        (named(BODY), named(BODY, "name"), True),
        (named(BODY), NOTHING, True),
        (named(BODY), named(b"other"), False),
        (NOTHING, Metadata(None, Trust.SIMPLE, blocked="another length"), False),
        (BY_PIECES, BY_PIECES, True),
        (BY_PIECES, ANCHORED, True),
        (BY_PIECES, NOTHING, False),
        (ANCHORED, BY_PIECES, True),
    ],
)
async def test_a_whole_ends_only_where_nothing_new_was_said_of_it(
    tmp_path: Path, span: BodySpan, known: Metadata, now: Metadata, ends: bool
) -> None:
    out, asked = bytearray(), list[Metadata]()

    async def by_now(before: Metadata) -> Metadata:
        asked.append(before)
        return now

    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        opened = OpenBody(await rig.asker.send(WANT), 0)
        body = RelayedBody(rig.relay, WANT, known, span, opened=opened, by_now=by_now)
        if ends:
            assert await read(body) == BODY
        else:
            with pytest.raises(UpstreamError):
                await read(body, out)
            assert span.stop is None or len(out) < len(BODY)
            assert any(name == "content_refused" for name, *_labels in rig.meter.counts)
    assert asked[0] is known


@pytest.mark.parametrize(("now", "ends"), [(named(b"other"), True), (NOTHING, False), (ANCHORED, True)])
async def test_a_part_is_cut_only_where_its_manifest_holds_no_more(tmp_path: Path, now: Metadata, ends: bool) -> None:
    kept = now if now.manifest is not None or not ends else Metadata(MANIFEST, Trust.SELF_CONSISTENT, now.claims)

    async def by_now(_known: Metadata) -> Metadata:
        return kept

    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        span = BodySpan(5, 2 * PIECE, len(BODY))
        body = RelayedBody(rig.relay, WANT, BY_PIECES, span, ask=asking(rig), by_now=by_now)
        if ends:
            assert await read(body) == BODY[5 : 2 * PIECE]
        else:
            with pytest.raises(WrongContent):
                await read(body)
