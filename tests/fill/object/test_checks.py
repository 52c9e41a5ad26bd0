"""Objects that are judged as a whole: their last piece is neither shown nor stored before the whole is right."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import BadPiece, GenerationChanged, NoSource, WrongContent
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.object.whole_digest import WholeDigest
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.stored_object import StoredObject
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import CancelAt, Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk, put_pieces, representation, running_store, settled

BODY = blob(12, 6 * PIECE + 100)
REP = representation("a", len(BODY))
WANT = want_for()
SHA1 = Claim("name", authentic=True, sha1=hashlib.sha1(BODY).digest())
WRONG = Claim("catalogue", authentic=True, sha1=hashlib.sha1(b"another").digest())
LAST = len(BODY) // PIECE


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Spans that were read for digests of the whole."""
    spans: list[tuple[int, int]] = []
    feed = ObjectFile.feed

    def noted(file: ObjectFile, digests: Sequence[Any], start: int, stop: int) -> None:
        spans.append((start, stop))
        feed(file, digests, start, stop)

    monkeypatch.setattr(ObjectFile, "feed", noted)
    return spans


async def given_out(rig: Rig, obj: StoredObject, start: int = 0) -> int:
    """Byte that a reader of the rest gets to, refused or not."""
    obj.hold()
    reader = rig.coordinator.reader(obj, WANT, start, len(BODY), whole=True)
    at = start
    try:
        while at < len(BODY):
            at = await reader.readable(at)
    except (WrongContent, GenerationChanged):
        pass
    finally:
        reader.close(reached=at)
        obj.release()
    return at


async def test_a_right_whole_is_given_out_kept_and_labelled(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert obj.pieces.complete
        assert obj.representation.trust is Trust.ANCHORED
        assert rig.meter.counts["verified", "anchored", "ok"] == 1


@pytest.mark.parametrize("options", [quick(parallel=1), quick(parallel=4, span_pieces=1), quick(hold_timeout_s=0.001)])
async def test_nobody_gets_a_wrong_whole_and_nothing_of_it_is_kept(
    tmp_path: Path, upstream: ScriptedUpstream, options: Any
) -> None:
    async with filling(tmp_path, upstream, anchor=SayingAnchor(WRONG), options=options) as rig:
        obj = await rig.store.create(REP)
        reached = await asyncio.gather(*(given_out(rig, obj, at) for at in (0, 3 * PIECE, LAST * PIECE)))
        assert reached[0] < len(BODY), "a part may be read before the rest is there, but not the whole"
        await rig.assert_clean()
        assert await rig.store.find(obj.object_id) is None
        assert bytes_on_disk(tmp_path) == rig.store.volumes[0].ledger.stored_bytes == 0
        assert rig.meter.counts["struck", "False"] == 1
        assert rig.meter.counts["verified", "anchored", "bad"] == 1


async def test_of_an_object_of_one_piece_no_byte_is_shown_before_it_is_right(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY[:3000])
    async with filling(tmp_path, upstream, anchor=SayingAnchor(WRONG)) as rig:
        obj = await rig.store.create(representation("a", 3000))
        obj.hold()
        reader = rig.coordinator.reader(obj, WANT, 0, 2, whole=False)
        with pytest.raises(WrongContent):
            await reader.readable(0)
        reader.close(reached=0)
        obj.release()
        await rig.assert_clean()


async def test_the_last_piece_is_not_shown_when_its_reader_has_waited_too_long(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    options = quick(hold_timeout_s=0.001, parallel=1)
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1), options=options) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT, 0, LAST * PIECE - 1) == BODY[: LAST * PIECE - 1]
        await rig.idle()
        upstream.script.append(Turn(gate=gate))
        reading = asyncio.create_task(rig.read(obj, WANT, LAST * PIECE))
        await settled()
        rig.fills[0].progress.expose(LAST)
        rig.fills[0].progress.advance(LAST, len(BODY) - 1)
        assert rig.fills[0].progress.readable_until(LAST * PIECE, len(BODY)) == LAST * PIECE
        gate.set()
        assert await reading == BODY[LAST * PIECE :]
        await rig.assert_clean()


@pytest.mark.parametrize("claim", [SHA1, WRONG], ids=["right", "wrong"])
async def test_the_last_piece_waits_for_what_may_still_be_said_of_the_whole(
    tmp_path: Path, upstream: ScriptedUpstream, claim: Claim
) -> None:
    anchor = SayingAnchor(claim, gate=asyncio.Event())
    async with filling(tmp_path, upstream, anchor=anchor, options=quick(hold_timeout_s=0.001)) as rig:
        obj = await rig.store.create(REP)
        obj.hold()
        reader = rig.coordinator.reader(obj, WANT, 0, len(BODY), whole=True)
        at = 0
        while at < LAST * PIECE:
            at = await reader.readable(at)
        waiting = asyncio.create_task(reader.readable(at))
        done, _pending = await asyncio.wait((waiting,), timeout=0.1)
        assert not done
        assert obj.pieces.state(LAST) == ABSENT
        assert anchor.gate is not None
        anchor.gate.set()
        if claim is SHA1:
            assert await waiting == len(BODY)
        else:
            with pytest.raises(WrongContent):
                await waiting
        reader.close(reached=at)
        obj.release()
        await rig.assert_clean()


async def test_who_reads_on_in_an_object_that_proved_wrong_is_cut(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream, anchor=SayingAnchor(WRONG)) as rig:
        obj = await rig.store.create(REP)
        obj.hold()
        slow = rig.coordinator.reader(obj, WANT, 0, 2 * PIECE, whole=False)
        assert await slow.readable(0) > 0
        await given_out(rig, obj)
        with pytest.raises((GenerationChanged, WrongContent)):
            await slow.readable(0)
        slow.close(reached=0)
        obj.release()
        await rig.assert_clean()


async def test_every_byte_is_hashed_once_and_behind_the_fill(
    tmp_path: Path, upstream: ScriptedUpstream, hashed: list[tuple[int, int]]
) -> None:
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1), options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
    assert sum(stop - start for start, stop in hashed) == len(BODY)
    assert len(hashed) > 1


async def test_nothing_is_hashed_where_nothing_is_said_of_the_whole(
    tmp_path: Path, upstream: ScriptedUpstream, hashed: list[tuple[int, int]]
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
    assert hashed == []


async def test_pieces_of_an_earlier_fill_are_hashed_once_at_the_end(
    tmp_path: Path, upstream: ScriptedUpstream, hashed: list[tuple[int, int]]
) -> None:
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1), options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        for piece in range(1, LAST + 1):
            start = piece * PIECE
            stop = min(start + PIECE, len(BODY))
            assert await rig.read(obj, WANT, start, stop, whole=False) == BODY[start:stop]
            await rig.idle()
        assert hashed == []
        assert await rig.read(obj, WANT, 0, 1, whole=False) == BODY[:1]
        await rig.assert_clean()
        assert obj.pieces.complete
    assert sum(stop - start for start, stop in hashed) == len(BODY)


async def test_a_piece_that_is_bad_at_rest_is_fetched_again_and_not_held_against_the_source(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with running_store(tmp_path) as store:
        old = await store.create(REP)
        await put_pieces(store, old, range(LAST), BODY)
        old.file.write_at(2 * PIECE + 5, bytes([BODY[2 * PIECE + 5] ^ 1]))
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1)) as rig:
        obj = await rig.store.find(REP.object_id)
        assert isinstance(obj, StoredObject)
        assert obj.pieces.state(2) == STORED
        assert await rig.read(obj, WANT, LAST * PIECE, whole=False) == BODY[LAST * PIECE :]
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert obj.pieces.pieces_in_state(0, LAST + 1, PRESENT) == list(range(LAST + 1))
        assert ("struck", "False") not in rig.meter.counts


async def test_digests_begin_anew_when_a_piece_that_they_have_passed_is_replaced(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await store.create(REP)
        await put_pieces(store, obj, range(LAST), bytes(len(BODY)))
        ended = asyncio.Event()
        whole = WholeDigest(obj, store, on_idle=ended.set)
        whole.begin(("sha1",))
        for piece in range(LAST):
            whole.note(piece)
        await ended.wait()
        obj.file.write_at(0, BODY)
        whole.note(1)
        assert await whole.finish(LAST) == {"sha1": hashlib.sha1(BODY).digest()}
        await whole.close()


async def test_a_flight_cancelled_at_any_await_while_the_whole_is_judged_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fly = ObjectFill._fly
    small = BODY[: PIECE + 50]
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(small).digest())
    for number in count(1):
        cancelled: list[CancelAt] = []

        async def cut(fill: ObjectFill, *args: Any, number: int = number, seen: list[CancelAt] = cancelled) -> None:
            if seen:
                await fly(fill, *args)
                return
            seen.append(CancelAt(fly(fill, *args), number))
            await seen[0]

        monkeypatch.setattr(ObjectFill, "_fly", cut)
        place = tmp_path / str(number)
        async with filling(place, ScriptedUpstream(small), anchor=SayingAnchor(claim)) as rig:
            obj = await rig.store.create(representation("a", len(small)))
            with suppress(BadPiece):  # who was shown some of what was not judged yet is cut, and comes again
                assert await rig.read(obj, WANT) == small
            assert await rig.read(obj, WANT) == small
            await rig.assert_clean()
            assert obj.pieces.complete
            assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(place), number
        if not cancelled[0].reached:
            assert number > 8, "the flight has many places to wait"
            return


# -- statements about pieces of other sizes, or without a manifest ----------------------------------------------


async def judged(directory: Path, metadata: Metadata) -> tuple[int, bool]:
    """How far a reader gets of ``BODY``, and whether it is kept."""
    upstream = ScriptedUpstream(BODY)
    async with filling(directory, upstream, options=quick(span_pieces=8)) as rig:
        obj = await rig.store.create(REP)

        async def fetch(*_args: Any, **_kwargs: Any) -> Metadata:
            return metadata

        rig.fetcher.fetch = fetch  # type: ignore[method-assign]
        try:
            reached = await given_out(rig, obj)
        except (BadPiece, NoSource):
            reached = -1
        await rig.idle()
        return reached, await rig.store.find(obj.object_id) is obj and obj.pieces.complete


@pytest.mark.parametrize("size", [1 << 14, 1 << 20])
@pytest.mark.parametrize("right", [True, False])
async def test_a_hash_of_hashes_without_its_manifest_is_held_against_our_own_pieces(
    tmp_path: Path, size: int, right: bool
) -> None:
    body = BODY if right else blob(13, len(BODY))
    said = Claim("catalogue", authentic=True, hash_of_hashes=manifest_of(body, size).hash_of_hashes)
    reached, kept = await judged(tmp_path, Metadata(None, Trust.SIMPLE, (said,)))
    assert ((reached == len(BODY)), kept) == (right, right)


@pytest.mark.parametrize("size", [PIECE // 2, PIECE, 1 << 14, 1 << 20])
@pytest.mark.parametrize("right", [True, False])
async def test_a_manifest_in_pieces_of_any_size_is_compared(tmp_path: Path, size: int, right: bool) -> None:
    body = BODY if right else BODY[:-1] + bytes((BODY[-1] ^ 1,))
    reached, kept = await judged(tmp_path, Metadata(manifest_of(body, size), Trust.SELF_CONSISTENT))
    assert ((reached == len(BODY)), kept) == (right, right)


async def test_a_stop_while_metadata_is_pending_keeps_nothing_that_was_not_compared(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    anchor = SayingAnchor(gate=asyncio.Event())
    async with filling(tmp_path, upstream, anchor=anchor, options=quick(hold_timeout_s=0.001)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT, 0, PIECE, whole=False) == BODY[:PIECE]
        assert obj.pieces.state(0) != ABSENT
        await rig.coordinator.stop()
        assert obj.pieces.pieces_in_state(0, len(obj.pieces), ABSENT) == list(range(len(obj.pieces)))


async def test_a_fill_stays_while_its_digests_follow_it(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeding, go_on, feed = threading.Event(), threading.Event(), ObjectFile.feed

    def slow(file: ObjectFile, digests: Sequence[Any], start: int, stop: int) -> None:
        feeding.set()
        go_on.wait(10)
        feed(file, digests, start, stop)

    monkeypatch.setattr(ObjectFile, "feed", slow)
    async with filling(tmp_path, upstream, anchor=SayingAnchor(SHA1), options=quick(parallel=1)) as rig:
        obj = await rig.store.create(REP)
        assert await rig.read(obj, WANT, 0, PIECE, whole=False) == BODY[:PIECE]
        assert await asyncio.to_thread(feeding.wait, 10)
        await settled()
        assert (rig.coordinator.fills_in_flight, len(rig.fills)) == (0, 1), "what it has hashed is not lost"
        go_on.set()
        await rig.assert_clean()
