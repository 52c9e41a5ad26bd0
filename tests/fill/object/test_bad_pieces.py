"""A piece that proves bad: fetched again from its first byte, its source struck, no reader mixes its copies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import BadPiece
from cacheserver.core.integrity.trust import Trust
from cacheserver.fill.metadata import Metadata
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation

BODY = blob(21, 5 * PIECE + 100)
LAST = len(BODY) - 1
REP = representation("a", len(BODY))
WANT = want_for()
KNOWN = Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)


async def test_it_is_fetched_again_from_its_first_byte_and_its_only_source_is_struck(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(break_after=PIECE + 100), Turn(flip=True)])
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=8, read_ahead_pieces=8)) as rig:
        obj = await rig.store.create(REP)
        rig.coordinator._fill(obj, WANT, REP.fields, replace(KNOWN, trust=Trust.ANCHORED))
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert upstream.ranges == [f"0-{LAST}", f"{PIECE + 100}-{LAST}", f"{PIECE}-{LAST}"]
        word = Trust.ANCHORED.word
        assert (rig.meter.counts["verified", word, "bad"], rig.meter.counts["verified", word, "ok"]) == (1, 6)
        assert rig.meter.counts["struck", "False"] == 1


async def test_a_reader_that_was_given_bytes_of_it_gets_none_of_another_copy(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            reader = rig.coordinator.reader(obj, WANT, 0, PIECE, whole=False)
            progress = rig.fills[0].progress
            progress.stop_guarding()
            progress.advance(0, 100)
            assert await reader.readable(0) == 100
            assert reader.has_tasted(99)
            progress.reject(0, seen=True)
            with pytest.raises(BadPiece):
                await reader.readable(100)
            reader.close(reached=100)
        await rig.assert_clean()


async def test_who_was_given_a_stored_piece_that_a_late_manifest_finds_bad_is_cut(tmp_path: Path) -> None:
    anchor = SayingAnchor(gate=asyncio.Event())
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, [0, 1], bytes(len(BODY)))
            readers = [rig.coordinator.reader(obj, WANT, at * PIECE, 2 * PIECE, whole=False) for at in (0, 1)]
            assert await readers[0].readable(0) == 2 * PIECE
            assert not rig.fills[0].metadata.manifest
            await rig.fills[0].checks.settle(KNOWN)
            with pytest.raises(BadPiece):
                readers[0].still(0, 1)
            async with asyncio.timeout(20):
                assert await readers[1].readable(PIECE) > PIECE, "who was given nothing of it gets the good one"
            for reader in readers:
                reader.close(reached=0)
            assert anchor.gate is not None
            anchor.gate.set()
        await rig.assert_clean()
