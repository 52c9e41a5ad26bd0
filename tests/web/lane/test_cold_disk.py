"""Cold bytes never make the event loop wait for the disk: a thread has read what the loop sends."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from cacheserver.core.piece_map import PRESENT, PieceMap
from cacheserver.core.request.answer_record import RequestLabel
from cacheserver.store.object import residency
from cacheserver.store.object.residency import reading_threads
from cacheserver.store.stored_object import StoredObject
from cacheserver.system.clock import SystemClock
from cacheserver.web.heads import HitLines
from cacheserver.web.lane import lane as fast_lane
from cacheserver.web.lane.hot_table import HotEntry, HotTable
from cacheserver.web.lane.lane import FastLane
from cacheserver.web.lane.senders import PlainSender
from cacheserver.web.lane.shared import LaneShared
from cacheserver.web.sending import wire
from cacheserver.web.sending.turns import Turns
from cacheserver.web.sending.wire import Wire
from cacheserver.web.under_way import UnderWay
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.sockets import Peer, connected, wire_over

MIB = 1 << 20
TURN = 1 << 18
BODY = blob(78, 4 * MIB)
HEAD = b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"


def ranged(start: int, stop: int) -> bytes:
    """A head that asks for bytes ``[start, stop)``."""
    return HEAD[:-2] + b"Range: bytes=%d-%d\r\n\r\n" % (start, stop - 1)


@dataclass(eq=False)
class StubFile:
    """An open file of which every piece is PRESENT."""

    fd: int
    pieces: PieceMap
    representation: object


@dataclass(eq=False)
class StubObject:
    """What the lane needs of an object."""

    file: StubFile
    obsolete: bool = False
    holds: int = 0
    condemned: tuple[int, ...] = ()

    @property
    def pieces(self) -> PieceMap:
        return self.file.pieces

    def is_spoilt(self, _since: int, _start: int, _stop: int) -> bool:
        return False

    def hold(self) -> None:
        self.holds += 1

    def release(self) -> None:
        self.holds -= 1


def stored(obj: StubObject) -> StoredObject:
    """``obj`` in the place of an object of the store."""
    return cast(StoredObject, obj)


@dataclass
class Disk:
    """Who reads and who sends; a span counts as cold until a thread has read it."""

    fd: int
    read: list[tuple[int, int]] = field(default_factory=list)
    sent: list[tuple[int, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    loop_thread: int = field(default_factory=threading.get_ident)

    def covered(self, start: int, stop: int) -> bool:
        """Whether a thread has read all of it."""
        return any(first <= start and stop <= last for first, last in self.read)

    def read_through(self, fd: int, start: int, stop: int) -> None:
        """See ``residency.read_through``."""
        if threading.get_ident() == self.loop_thread:
            self.faults.append(f"the loop read {start}-{stop}")
        residency.read_through(fd, start, stop)
        self.read.append((start, stop))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    disk = Disk(os.open(path, os.O_RDONLY))
    sendfile = os.sendfile

    def seen(out: int, fd: int, start: int, length: int) -> int:
        sent = sendfile(out, fd, start, length)
        if threading.get_ident() == disk.loop_thread:
            disk.sent.append((start, start + sent))
            if not disk.covered(start, start + length):
                disk.faults.append(f"the loop sent {start}-{start + length}, which nobody had read")
        return sent

    monkeypatch.setattr(os, "sendfile", seen)
    for room in (fast_lane, wire):
        monkeypatch.setattr(room, "resident", lambda _fd, start, stop: disk.covered(start, stop))
        monkeypatch.setattr(room, "read_through", disk.read_through)
    yield disk
    os.close(disk.fd)


@asynccontextmanager
async def lane_over(disk: Disk) -> AsyncIterator[tuple[Peer, FastLane, StubObject]]:
    """The lane of one connection, and an object that it may answer from."""
    body = PieceMap(len(BODY), MIB, bytes([PRESENT]) * (len(BODY) // MIB))
    obj = StubObject(StubFile(disk.fd, body, representation := object()))
    lines = HitLines(kept=b"", kept_of_part=b"", lifetime_s=float("inf"), age_on_arrival_s=0, arrived_s=0, trust=1)
    entry = HotEntry(stored(obj), representation, len(BODY), RequestLabel(), float("inf"), lines)
    with reading_threads(2) as threads:
        shared = LaneShared(
            table=HotTable(),
            clock=SystemClock(),
            account=lambda *_said: None,
            under_way=UnderWay(lambda _answer: None),
            touch=lambda *_said: None,
            turn_bytes=TURN,
            executor=threads,
        )
        for head in (HEAD, ranged(0, 1)):
            shared.table.learn(head, entry)
        async with connected() as peer:
            assert peer.transport is not None
            lane = FastLane(shared, peer.transport, done=lambda _rest: None)
            yield peer, lane, obj
            lane.close()


async def test_the_lane_sends_only_what_a_thread_has_read(disk: Disk) -> None:
    async with lane_over(disk) as (peer, lane, obj):
        assert lane.take(HEAD)
        head, body = await peer.response()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == BODY
        assert not lane.busy
        assert obj.holds == 0
    assert disk.faults == []
    assert disk.sent
    assert all(stop - start <= TURN for start, stop in disk.read), "a reader takes no more of the disk than its turn"


async def test_a_client_that_reads_nothing_for_a_while_never_makes_the_loop_wait(disk: Disk) -> None:
    async with lane_over(disk) as (peer, lane, _obj):
        assert peer.transport is not None
        socket = peer.transport.get_extra_info("socket")
        lane.take(HEAD)

        async def waits_for_the_client() -> bool:
            assert isinstance(lane._sender, PlainSender)
            return lane._sender._dup is not None

        await eventually(waits_for_the_client)
        assert not os.get_blocking(socket.fileno()), "the next send would wait for the client, and everyone with it"


@pytest.mark.parametrize("full_path", [True, False])
async def test_an_answer_goes_on_without_a_descriptor_to_wait_with(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, full_path: bool
) -> None:
    def refused(_sock: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "no descriptor is left")

    monkeypatch.setattr(socket.socket, "dup", refused)
    async with lane_over(disk) as (peer, lane, obj):
        if full_path:
            peer.wire = wire_over(peer, turn_bytes=TURN, min_rate_bps=0)
            sending = asyncio.create_task(peer.wire.send_file(disk.fd, 0, len(BODY)))
            assert await peer.receive(len(BODY)) == BODY
            await sending
        else:
            lane.take(HEAD)
            assert (await peer.response())[1] == BODY
        assert (lane.busy, obj.holds) == (False, 0)


async def test_the_full_path_sends_only_what_a_thread_has_read(disk: Disk) -> None:
    with reading_threads(2) as threads:
        async with connected() as peer:
            shared = Turns(SystemClock())
            assert peer.transport is not None
            peer.wire = Wire(
                peer.transport, peer.drained, turns=shared, turn_bytes=TURN, min_rate_bps=0, executor=threads
            )
            sending = asyncio.create_task(peer.wire.send_file(disk.fd, 5, len(BODY)))
            assert await peer.receive(len(BODY) - 5) == BODY[5:]
            await sending
    assert disk.faults == []
    assert disk.sent


async def test_a_small_answer_from_a_cold_disk_is_read_by_a_thread_too(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv

    def cold(fd: int, buffers: list[bytearray], start: int, flags: int = 0) -> int:
        if threading.get_ident() == disk.loop_thread and not disk.covered(start, start + 1):
            assert flags & os.RWF_NOWAIT, "the loop must not wait"
            raise BlockingIOError
        return preadv(fd, buffers, start, flags)

    monkeypatch.setattr(os, "preadv", cold)
    for size in (4096, 65_536):
        async with lane_over(disk) as (peer, lane, _obj):
            disk.read.clear()
            assert lane.take(ranged(MIB, MIB + size))
            _head, body = await peer.response()
            assert body == BODY[MIB : MIB + size]
            assert disk.read == [(MIB, MIB + size)]
    assert disk.faults == []


async def test_a_client_that_goes_while_its_bytes_are_read_leaves_nothing_held(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_fd: int, _start: int, _stop: int) -> None:
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr(fast_lane, "read_through", slow)
    async with lane_over(disk) as (_peer, lane, obj):
        lane.take(HEAD)
        await asyncio.to_thread(begun.wait, 10)
        lane.close()

        async def released() -> bool:
            return not obj.holds

        assert obj.holds == 1, "the thread still reads from the descriptor"
        go_on.set()
        await eventually(released)
    assert disk.sent == []


async def test_a_medium_answer_goes_out_at_once_where_its_surroundings_are_in_memory(disk: Disk) -> None:
    async with lane_over(disk) as (peer, lane, _obj):
        for start in (1 << 16, 2 << 16):
            assert lane.take(ranged(start, start + (1 << 16)))
            assert lane.busy, "it is cold, and a thread reads it first"
            assert (await peer.response())[1] == BODY[start : start + (1 << 16)]
            assert disk.read[-1] == (start, start + (1 << 16))
        disk.read.append((0, 2 * MIB))
        for start in (3 << 16, 5, MIB - 5):
            assert lane.take(ranged(start, start + (1 << 16)))
            assert not lane.busy
            assert (await peer.response())[1] == BODY[start : start + (1 << 16)]
        assert lane.take(ranged(2 * MIB - 9, 2 * MIB + 9000 + (1 << 16)))
        assert lane.busy, "its second half is cold"
        await peer.response()
    assert disk.faults == []
