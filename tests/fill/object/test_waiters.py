"""Nobody waits for a piece that nobody fetches: whatever ends, those who still want something plan for it again."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError, StoreError, TruncatedBody
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import PRESENT
from cacheserver.fill.metadata import Metadata
from cacheserver.store.object.file import ObjectFile
from tests.support.content import blob
from tests.support.filling import Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation, settled

BODY = blob(12, 20 * PIECE)
REP = representation("a", len(BODY))
WANT = want_for()
FEW = {"read_ahead_pieces": 1, "span_pieces": 1, "tries": 1}


async def piece(rig: Rig, obj: object, number: int) -> bytes:
    """One reader of one piece, impatient."""
    async with asyncio.timeout(2):
        return await rig.read(obj, WANT, number * PIECE, (number + 1) * PIECE, whole=False)  # type: ignore[arg-type]


def body_of(number: int) -> bytes:
    return BODY[number * PIECE : (number + 1) * PIECE]


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("gaps", [[1, 10], [1, 10, 15], [10, 1, 5, 15]])
async def test_readers_of_other_gaps_are_served_when_a_whole_body_breaks(
    tmp_path: Path, gaps: list[int], parallel: int
) -> None:
    upstream = ScriptedUpstream(BODY)
    gate = asyncio.Event()
    upstream.script.append(Turn(ignore_range=True, break_after=100, gate=gate))
    upstream.script.extend([Turn(ignore_range=True)] * 8)
    async with filling(tmp_path, upstream, options=quick(parallel=parallel, **FEW)) as rig:
        obj = await rig.store.create(REP)
        first = asyncio.create_task(piece(rig, obj, gaps[0]))
        await settled()
        others = [asyncio.create_task(piece(rig, obj, number)) for number in gaps[1:]]
        await settled()
        gate.set()
        with pytest.raises(TruncatedBody):
            await first
        assert await asyncio.gather(*others) == [body_of(number) for number in gaps[1:]]
        await rig.assert_clean()


async def test_more_readers_than_flights_are_all_served_although_each_flight_fails_once(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(break_after=10)] * 2)
    async with filling(tmp_path, upstream, options=quick(parallel=1, **FEW)) as rig:
        obj = await rig.store.create(REP)
        numbers = [0, 4, 8, 12, 16]
        got = await asyncio.gather(*(piece(rig, obj, number) for number in numbers), return_exceptions=True)
        right = [data for number, data in zip(numbers, got, strict=True) if data == body_of(number)]
        failed = [error for error in got if isinstance(error, BaseException)]
        assert (len(right), len(failed)) == (3, 2)
        assert all(isinstance(error, TruncatedBody) for error in failed), "a reader hears of its own piece only"
        await rig.assert_clean()


async def test_a_reader_of_another_gap_goes_past_a_store_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = ScriptedUpstream(BODY)
    gate = asyncio.Event()
    upstream.script.extend([Turn(ignore_range=True, gate=gate)] * 2)

    def full(*_args: object) -> None:
        raise DiskError("write: no space", errno=errno.ENOSPC)

    async with filling(tmp_path, upstream, options=quick(parallel=1, **FEW)) as rig:
        obj = await rig.store.create(REP)
        readers = [asyncio.create_task(piece(rig, obj, number)) for number in (1, 10)]
        await settled()
        monkeypatch.setattr(ObjectFile, "write_at", full)
        gate.set()
        ends = await asyncio.gather(*readers, return_exceptions=True)
        assert all(isinstance(end, StoreError) for end in ends), ends
        await rig.assert_clean()


async def test_a_reader_of_a_piece_that_is_being_condemned_waits_for_the_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing, go_on, erase = threading.Event(), threading.Event(), ObjectFile.erase

    def slow(file: ObjectFile, first: int, stop: int) -> None:
        erasing.set()
        go_on.wait(5)
        erase(file, first, stop)

    monkeypatch.setattr(ObjectFile, "erase", slow)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, [0, 1, 2, 4], BODY)
            await put_pieces(rig.store, obj, [3], bytes(len(BODY)))
            other = rig.coordinator.reader(obj, WANT, 0, 10, whole=False)
            checks = rig.fills[0].checks
            weighing = asyncio.create_task(checks.settle(Metadata(manifest_of(BODY, PIECE), Trust.SIMPLE)))
            await asyncio.get_running_loop().run_in_executor(None, erasing.wait, 5)
            reading = asyncio.create_task(piece(rig, obj, 3))
            await settled()
            go_on.set()
            assert await reading == body_of(3)
            await weighing
            assert not obj.obsolete
            assert obj.pieces.pieces_in_state(0, 5, PRESENT) == [0, 1, 2, 3, 4]
            other.close(reached=10)
        await rig.assert_clean()


async def test_an_object_whose_bad_piece_cannot_be_erased_is_given_up_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object) -> None:
        raise DiskError("erase: failed", errno=errno.EIO)

    monkeypatch.setattr(ObjectFile, "erase", refused)
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, [3], bytes(len(BODY)))
            other = rig.coordinator.reader(obj, WANT, 0, 10, whole=False)
            fill = rig.fills[0]
            await rig.coordinator._metadata.settled(fill)  # what it has learnt itself would be taken up in between
            with pytest.raises(DiskError):
                await fill.checks.settle(Metadata(manifest_of(BODY, PIECE), Trust.SIMPLE))
            assert obj.obsolete, "its record would make the bad piece a stored one at the next start"
            assert not fill.progress.claims
            other.close(reached=10)
        await rig.assert_clean()


async def test_only_one_who_waits_for_anothers_fill_is_counted_as_collapsed(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT, (0, None))
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert rig.meter.counts[("collapsed",)] == 0
    upstream.script.append(Turn(gate=(gate := asyncio.Event())))
    async with filling(tmp_path / "other", upstream) as rig:
        obj = await rig.opened(WANT, (0, None))
        readers = [asyncio.create_task(rig.read(obj, want)) for want in (WANT, want_for(), want_for())]
        await settled()
        gate.set()
        assert await asyncio.gather(*readers) == [BODY] * 3
        assert rig.meter.counts[("collapsed",)] == 2
        await rig.assert_clean()
