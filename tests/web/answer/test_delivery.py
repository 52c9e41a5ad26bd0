"""Bodies on their way: from the file, while it fills, past a disk that fails; cancelled at every await."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from cacheserver.core.errors import BadPiece, DiskError, GenerationChanged, WrongContent
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.core.piece_map import ABSENT
from cacheserver.fill.metadata import Metadata, MetadataFetcher
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.delivery import Delivery
from cacheserver.web.answer.object_reply import plan_object_reply
from cacheserver.web.sending.response import ResponseWriter
from cacheserver.web.sending.wire import Still
from tests.support.content import blob
from tests.support.filling import CancelAt, Rig, filling, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.sockets import Peer, connected, wire_over
from tests.support.stored import NOW_S, PIECE, representation, settled

BODY = blob(7, 6 * PIECE + 100)
REP = representation("a", len(BODY))
WANT = want_for()


class Room:
    """A delivery to a client that reads everything."""

    def __init__(self, rig: Rig, peer: Peer) -> None:
        self.rig = rig
        self.peer = peer
        self.wire = wire_over(peer)
        self.channel = ResponseWriter(self.wire, method="GET", http_10=False, keep_alive=True)

    async def deliver(self, obj: StoredObject, *fields: tuple[str, str]) -> None:
        """As the handler does."""
        reply = plan_object_reply(obj.representation, Fields(fields), method="GET", now_s=NOW_S, boundary="B")
        obj.hold()
        try:
            rig = self.rig
            delivery = Delivery(coordinator=rig.coordinator, store=rig.store, relay=rig.relay)
            await delivery.send(self.channel, WANT, obj, reply)
        finally:
            obj.release()

    async def received(self, obj: StoredObject, *fields: tuple[str, str]) -> bytes:
        """The body that the client gets of a delivery that succeeds."""
        task = asyncio.create_task(self.deliver(obj, *fields))
        _head, body = await self.peer.response()
        await task
        assert self.channel.keep_alive
        return body


@asynccontextmanager
async def room(directory: Path, upstream: ScriptedUpstream) -> AsyncIterator[Room]:
    async with filling(directory, upstream) as rig, connected(buffer_bytes=1 << 20) as peer:
        yield Room(rig, peer)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


@pytest.mark.parametrize("field", [("X", "y"), ("Range", "bytes=0-0"), ("Range", f"bytes={PIECE - 1}-{3 * PIECE}")])
async def test_a_miss_and_a_hit_give_the_same_bytes(
    tmp_path: Path, upstream: ScriptedUpstream, field: tuple[str, str]
) -> None:
    bodies = []
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.store.create(REP)
        for _ in range(2):
            async with connected(buffer_bytes=1 << 20) as peer:
                bodies.append(await Room(rig, peer).received(obj, field))
        await rig.assert_clean()
    assert bodies[0] == bodies[1]
    assert bodies[0] in BODY
    assert len(bodies[0]) in (len(BODY), 1, 2 * PIECE + 2)


async def test_several_parts_come_in_one_body(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        body = await place.received(obj, ("Range", f"bytes=0-99,{4 * PIECE}-{4 * PIECE + 99}"))
        assert BODY[:100] in body
        assert BODY[4 * PIECE : 4 * PIECE + 100] in body
        await place.rig.assert_clean()


async def test_a_failure_before_the_first_byte_comes_before_the_head(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(status=403)] * 8)
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        with pytest.raises(Exception, match="403"):
            await place.deliver(obj)
        assert not place.channel.head_sent
        await place.rig.assert_clean()


async def test_a_piece_that_cannot_be_read_is_fetched_again(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        assert await place.rig.read(obj, WANT) == BODY
        send_file, failures = place.wire.send_file, [1]

        async def sick(fd: int, start: int, stop: int, still: Still) -> None:
            if failures and start <= 2 * PIECE < stop:
                await send_file(fd, start, 2 * PIECE, still)
                failures.pop()
                raise DiskError("read", errno=5)
            await send_file(fd, start, stop, still)

        monkeypatch.setattr(place.wire, "send_file", sick)
        upstream.requests.clear()
        assert await place.received(obj) == BODY
        assert upstream.ranges == [f"{2 * PIECE}-{3 * PIECE - 1}"]
        await place.rig.assert_clean()


async def test_a_disk_that_is_never_readable_ends_in_a_pass_and_not_in_a_circle(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)

        async def sick(_fd: int, _start: int, _stop: int, _still: Still) -> None:
            raise DiskError("read", errno=5)

        monkeypatch.setattr(place.wire, "send_file", sick)
        assert await place.received(obj) == BODY
        assert len(upstream.requests) < 12
        await place.rig.assert_clean()


async def test_a_disk_that_cannot_be_written_ends_in_a_pass(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: ObjectFile, _offset: int, _data: bytes) -> None:
        raise DiskError("write", errno=28)

    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        monkeypatch.setattr(ObjectFile, "write_at", full)
        upstream.script.extend([Turn(), Turn(), Turn(break_after=1000)])
        assert await place.received(obj) == BODY
        await place.rig.assert_clean()


@pytest.mark.parametrize("field", [("X", "y"), ("Range", f"bytes={PIECE + 9}-{3 * PIECE}")])
async def test_past_a_failing_store_the_manifest_counts_as_before(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, field: tuple[str, str]
) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        _past_the_store(monkeypatch)
        upstream.script.extend([Turn(), Turn(), Turn(break_after=PIECE + 1000)])
        assert await place.received(obj, field) in BODY
        assert upstream.ranges[-1] is not None
        assert int(upstream.ranges[-1].partition("-")[0]) % PIECE == 0
        assert place.rig.meter.counts["verified", "self_consistent", "ok"] >= 3
        await place.rig.assert_clean()


async def test_past_a_failing_store_no_byte_of_a_bad_piece_goes_out(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        _past_the_store(monkeypatch)
        upstream.script.extend([Turn(flip=True)] * 9)
        with pytest.raises(BadPiece):
            await place.deliver(obj, ("Range", f"bytes={2 * PIECE - 5}-{3 * PIECE}"))
        assert place.channel.body_bytes == 0
        assert place.rig.meter.counts["verified", "self_consistent", "bad"] >= 1
        await place.rig.assert_clean()


async def test_past_a_failing_store_the_last_piece_of_a_whole_waits_for_its_digest(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(b"another").digest())
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        _past_the_store(monkeypatch, Metadata(None, Trust.SIMPLE, (claim,)))
        with pytest.raises(WrongContent):
            await place.deliver(obj)
        assert place.channel.body_bytes == 6 * PIECE
        await place.rig.assert_clean()


def _past_the_store(monkeypatch: pytest.MonkeyPatch, told: Metadata | None = None) -> None:
    """Nothing can be written, and there is a manifest of ``BODY``, or what is ``told``."""

    def full(_file: ObjectFile, _offset: int, _data: bytes) -> None:
        raise DiskError("write", errno=28)

    async def fetch(*_args: object, **_named: object) -> Metadata:
        return told or Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)

    monkeypatch.setattr(ObjectFile, "write_at", full)
    monkeypatch.setattr(MetadataFetcher, "fetch", fetch)


async def test_a_new_generation_inside_the_body_ends_it_short(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    upstream.script.extend([Turn(), Turn(gate=gate), Turn(gate=gate)])
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        task = asyncio.create_task(place.deliver(obj))
        await settled()
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        await place.rig.store.forget(obj.object_id, reason="superseded")
        gate.set()
        with pytest.raises(GenerationChanged):
            await task
        await place.rig.assert_clean()


async def test_a_client_that_has_seen_part_of_a_bad_piece_gets_no_part_of_the_good_one(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        upstream.script.append(Turn(break_after=1500))
        obj.hold()
        reader = place.rig.coordinator.reader(obj, WANT, 0, PIECE, whole=False)
        upstream.script.append(Turn(gate=gate))
        assert await reader.readable(0) == 1500
        fill = place.rig.fills[0]
        fill.progress.reject(0, seen=True)
        gate.set()
        with pytest.raises(BadPiece):
            await reader.readable(1500)
        reader.close(reached=1500)
        obj.release()
        await place.rig.assert_clean()


async def test_a_delivery_cancelled_at_any_await_leaves_nothing_behind(tmp_path: Path) -> None:
    for number in count(1):
        upstream = ScriptedUpstream(BODY)
        async with room(tmp_path / str(number), upstream) as place:
            obj = await place.rig.store.create(REP)
            work = CancelAt(place.deliver(obj, ("Range", f"bytes=5-{2 * PIECE}")), number)
            await asyncio.gather(asyncio.create_task(_run(work)), return_exceptions=True)
            await place.rig.assert_clean()
            assert obj.pieces.state(6) == ABSENT
        if not work.reached:
            assert number > 3
            return


async def _run(work: CancelAt) -> None:
    await work


@pytest.mark.parametrize(("condemned", "whole"), [(3, True), (0, False)], ids=["not sent yet", "sent already"])
async def test_an_answer_goes_on_past_a_condemned_piece_or_is_cut_where_it_has_sent_it(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, condemned: int, whole: bool
) -> None:
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(REP)
        assert await place.rig.read(obj, WANT) == BODY
        send_file, done = place.wire.send_file, asyncio.Event()

        async def interrupted(fd: int, start: int, stop: int, still: Still) -> None:
            if start == 0:
                await send_file(fd, 0, 2 * PIECE, still)
                await place.rig.store.erase(obj, condemned)
                start = 2 * PIECE
                done.set()
            await send_file(fd, start, stop, still)

        monkeypatch.setattr(place.wire, "send_file", interrupted)
        if whole:
            assert await place.received(obj) == BODY
        else:
            with pytest.raises(BadPiece):
                await place.deliver(obj)
        assert done.is_set()
        await place.rig.assert_clean()
