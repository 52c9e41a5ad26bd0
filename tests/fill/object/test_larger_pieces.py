"""Manifests of pieces that are larger than ours: no part goes out and nothing is recorded before its piece is right."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import BadPiece, DiskError, TruncatedBody
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import ABSENT, PRESENT
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.reader import Reader
from cacheserver.store.stored_object import StoredObject
from tests.support.content import blob
from tests.support.filling import CancelAt, Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation

GROUP = 4
SIZE = GROUP * PIECE
BODY = blob(71, 2 * SIZE + PIECE + 100)
"""Two groups of four pieces and one of two, the last of which is short."""
COUNT = 2 * GROUP + 2
REP = representation("a", len(BODY))
WANT = want_for()
KNOWN = Metadata(manifest_of(BODY, SIZE), Trust.SELF_CONSISTENT)
STRICT = replace(KNOWN, trust=Trust.ANCHORED)
PARTS = [(0, 1), (PIECE + 5, 3 * PIECE), (SIZE - 1, SIZE + 1), (len(BODY) - 5, len(BODY)), (0, len(BODY))]


def flipped(at: int) -> bytes:
    """The body with one wrong byte."""
    return BODY[:at] + bytes((BODY[at] ^ 1,)) + BODY[at + 1 :]


async def begun(rig: Rig, metadata: Metadata = KNOWN) -> StoredObject:
    """A held object without pieces; all its fills get this metadata, the first one at once."""

    async def fetch(*_args: object, **_kwargs: object) -> Metadata:
        return metadata

    rig.fetcher.fetch = fetch  # type: ignore[method-assign]
    obj = await rig.store.create(REP)
    obj.hold()
    rig.coordinator._fill(obj, WANT, REP.fields, metadata)
    return obj


def recorded(obj: StoredObject) -> list[int]:
    """Pieces that a kill would leave."""
    return [piece for piece, digest in enumerate(obj.file.recorded()) if digest is not None]


@pytest.mark.parametrize("options", [quick(span_pieces=1), quick(span_pieces=3, parallel=4), quick(span_pieces=16)])
@pytest.mark.parametrize("ignore_range", [False, True])
async def test_any_part_is_right_and_comes_with_the_whole_of_its_group(
    tmp_path: Path, options: Any, ignore_range: bool
) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(ignore_range=True)] * 50 * ignore_range)
    async with filling(tmp_path, upstream, options=options) as rig:
        obj = await begun(rig)
        for start, stop in PARTS:
            assert await rig.read(obj, WANT, start, stop, whole=False) == BODY[start:stop]
            await rig.idle()
            groups = {piece // GROUP for piece in recorded(obj)}
            assert recorded(obj) == [piece for piece in range(COUNT) if piece // GROUP in groups], "whole groups alone"
        assert obj.pieces.complete
        obj.release()
        await rig.assert_clean()


@pytest.mark.parametrize("at", [0, PIECE, SIZE - 1])
async def test_no_byte_of_a_group_goes_out_or_is_recorded_where_a_byte_of_it_is_wrong(tmp_path: Path, at: int) -> None:
    async with filling(tmp_path, ScriptedUpstream(flipped(at))) as rig:
        obj = await begun(rig)
        reader = rig.coordinator.reader(obj, WANT, 2 * PIECE, 2 * PIECE + 10, whole=False)
        with pytest.raises(BadPiece):
            await reader.readable(2 * PIECE)
        reader.close(reached=2 * PIECE)
        await rig.idle()
        assert recorded(obj) == []
        assert await rig.read(obj, WANT, SIZE, len(BODY), whole=False) == BODY[SIZE:], "other groups are right"
        obj.release()
        await rig.assert_clean()


async def test_a_bad_group_is_fetched_again_from_its_first_byte_and_its_only_source_is_struck(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(flip=True))
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=16, read_ahead_pieces=16)) as rig:
        obj = await begun(rig, STRICT)
        assert await rig.read(obj, WANT) == BODY
        last = len(BODY) - 1
        assert upstream.ranges == [f"0-{last}", f"0-{last}"]
        assert rig.meter.counts["struck", "False"] == 1
        assert (rig.meter.counts["verified", "anchored", "bad"], rig.meter.counts["verified", "anchored", "ok"]) == (
            1,
            3,
        )
        obj.release()
        await rig.assert_clean()


async def test_of_two_sources_of_one_group_nobody_is_blamed(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(flip=True, break_after=PIECE), Turn()])
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=4)) as rig:
        obj = await begun(rig, STRICT)
        rig.fills[0].checks.larger.hold(1, b"", {"http://b.test:80"})
        assert await rig.read(obj, WANT, 0, SIZE, whole=False) == BODY[:SIZE]
        assert rig.meter.counts["struck", "False"] == 0
        obj.release()
        await rig.assert_clean()


async def test_after_a_break_the_rest_of_a_group_is_fetched_and_no_more(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(break_after=2 * PIECE + 7))
    async with filling(tmp_path, upstream, options=quick(span_pieces=4, parallel=1)) as rig:
        obj = await begun(rig)
        assert await rig.read(obj, WANT, 0, 10, whole=False) == BODY[:10]
        assert upstream.ranges == [f"0-{SIZE - 1}", f"{2 * PIECE + 7}-{SIZE - 1}"]
        obj.release()
        await rig.assert_clean()


async def test_a_reader_in_the_middle_of_a_group_hears_why_its_beginning_did_not_come(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(break_after=0)] * 50)
    async with filling(tmp_path, upstream) as rig:
        obj = await begun(rig)
        reader = rig.coordinator.reader(obj, WANT, 3 * PIECE, 3 * PIECE + 1, whole=False)
        with pytest.raises(TruncatedBody):
            await reader.readable(3 * PIECE)
        reader.close(reached=3 * PIECE)
        obj.release()
        await rig.assert_clean()


@pytest.mark.parametrize("at", [None, 3 * PIECE])
async def test_a_group_that_takes_too_long_is_shown_early_and_its_reader_cut_where_it_is_wrong(
    tmp_path: Path, at: int | None
) -> None:
    upstream = ScriptedUpstream(BODY if at is None else flipped(at))
    gate = asyncio.Event()
    upstream.script.extend([Turn(), Turn(gate=gate)])
    async with filling(tmp_path, upstream, options=quick(span_pieces=2, parallel=1, hold_timeout_s=0.01)) as rig:
        obj = await begun(rig)
        reader = rig.coordinator.reader(obj, WANT, 0, SIZE, whole=False)
        shown = 0
        while shown < 2 * PIECE:
            shown = await reader.readable(shown)
        assert recorded(obj) == []
        gate.set()
        if at is None:
            while shown < SIZE:
                shown = await reader.readable(shown)
            assert obj.pieces.present_until(0, SIZE) == SIZE, "an answer is not complete before it is right"
        else:
            shown = await read_on(reader, shown)
        reader.close(reached=shown)
        assert shown <= SIZE - (at is not None)
        obj.release()
        await rig.idle()


async def read_on(reader: Reader, shown: int) -> int:
    """How far a reader of bad bytes gets before it is cut."""
    while True:
        try:
            shown = await reader.readable(shown)
        except BadPiece:
            return shown
        assert shown < SIZE


@pytest.mark.parametrize("right", [True, False])
async def test_a_manifest_that_comes_late_withdraws_what_is_wrong_and_what_cannot_be_compared(
    tmp_path: Path, right: bool
) -> None:
    body = BODY if right else flipped(SIZE + 5)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await begun(rig)
        rig.fills[0].rest()
        await put_pieces(rig.store, obj, range(2, COUNT), body)
        assert await rig.read(obj, WANT, 0, 1, whole=False) == BODY[:1]
        await rig.idle()
        assert obj.condemned == ([2, 3] if right else [2, 3, *range(GROUP, 2 * GROUP)])
        assert await rig.read(obj, WANT) == BODY
        obj.release()
        await rig.assert_clean()


async def test_a_piece_that_rots_is_repaired_with_its_group(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await begun(rig)
        assert await rig.read(obj, WANT) == BODY
        rig.coordinator._fill(obj, WANT, REP.fields, KNOWN)
        await rig.store.erase(obj, 1)
        assert await rig.read(obj, WANT, 0, SIZE, whole=False) == BODY[:SIZE]
        assert recorded(obj) == list(range(COUNT))
        obj.release()
        await rig.assert_clean()


async def test_a_repair_that_does_not_fit_its_group_takes_the_group_out_of_service(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream) as rig:
        obj = await begun(rig)
        assert await rig.read(obj, WANT) == BODY
        rig.coordinator._fill(obj, WANT, REP.fields, STRICT)
        await rig.store.erase(obj, 1)
        upstream.script.append(Turn(flip=True))
        assert await rig.read(obj, WANT, PIECE, PIECE + 1, whole=False) == BODY[PIECE : PIECE + 1]
        assert obj.condemned == [1, 0, 2, 3]
        assert rig.meter.counts["struck", "False"] == 0, "the bad byte may have been in another piece"
        obj.release()
        await rig.assert_clean()


async def test_a_disk_that_fails_at_the_end_of_a_group_frees_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(span_pieces=4, parallel=1)) as rig:
        obj = await begun(rig)

        def fails(*_args: object) -> None:
            raise DiskError("no")

        monkeypatch.setattr(type(obj.file), "record_piece", fails)
        with pytest.raises(DiskError):
            await rig.read(obj, WANT, 0, 1, whole=False)
        monkeypatch.undo()
        assert recorded(obj) == []
        obj.release()
        await rig.assert_clean()


@pytest.mark.parametrize("number", range(1, 60))
async def test_a_stop_at_any_await_records_no_part_of_a_group(tmp_path: Path, number: int) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), options=quick(span_pieces=3, parallel=2)) as rig:
        obj = await begun(rig)
        reading = CancelAt(rig.read(obj, WANT), number)
        try:
            await reading
        except asyncio.CancelledError:
            await rig.coordinator.stop()
        whole = {piece // GROUP for piece in recorded(obj)}
        left = [piece for piece in recorded(obj) if obj.pieces.state(piece) != PRESENT]
        assert left == []
        for group in whole:  # a group is recorded piece by piece, once it is right
            span = range(group * GROUP, min((group + 1) * GROUP, COUNT))
            assert all(obj.pieces.state(piece) in (ABSENT, PRESENT) for piece in span)
        obj.release()
        await rig.assert_clean()


@pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE])
@pytest.mark.parametrize("right", [True, False])
async def test_contents_of_any_length_are_compared(tmp_path: Path, length: int, right: bool) -> None:
    body = BODY[:length]
    sent = body if right else body[:-1] + bytes((body[-1] ^ 1,))
    async with filling(tmp_path, ScriptedUpstream(sent), options=quick(span_pieces=3)) as rig:
        obj = await rig.store.create(representation("a", length))
        obj.hold()
        known = Metadata(manifest_of(body, SIZE), Trust.SELF_CONSISTENT)
        rig.coordinator._fill(obj, WANT, REP.fields, known)
        if right:
            assert await rig.read(obj, WANT) == body
        else:
            with pytest.raises(BadPiece):
                await rig.read(obj, WANT)
        await rig.idle()
        groups = -(-length // SIZE) - (not right)
        assert len(recorded(obj)) == min(groups * GROUP, len(obj.pieces))
        obj.release()
        await rig.assert_clean()
