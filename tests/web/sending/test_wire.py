"""The sending side of a connection: back-pressure, fairness, clients that go or are slow, disks that fail."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from cacheserver.core.errors import DiskError
from cacheserver.web.sending import wire as room
from cacheserver.web.sending.wire import ClientGone, Wire
from tests.support.content import blob
from tests.support.sockets import Peer, connected, wire_over
from tests.support.stored import open_descriptors, settled

BODY = blob(5, 1 << 20)


@pytest.fixture
def file(tmp_path: Path) -> int:
    (tmp_path / "body").write_bytes(BODY)
    return os.open(tmp_path / "body", os.O_RDONLY)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    before = open_descriptors()
    async with connected() as peer:
        yield peer
    await settled()
    assert open_descriptors() <= before + 1, "the wire keeps no descriptor"


def wire_of(peer: Peer, *, turn_bytes: int = 1 << 17, min_rate_bps: int = 1024) -> Wire:
    return wire_over(peer, turn_bytes=turn_bytes, min_rate_bps=min_rate_bps)


async def blocked(sending: asyncio.Task[None], wire: Wire) -> None:
    """Until a sender cannot go on, because the client takes nothing."""
    sent = -1
    while sent != wire.sent_bytes:
        sent = wire.sent_bytes
        await settled()
    assert not sending.done()


@pytest.mark.parametrize(("start", "stop"), [(0, len(BODY)), (0, 0), (1, 2), (12_345, 700_001)])
async def test_a_file_goes_out_exactly_whatever_the_client_takes_at_once(
    peer: Peer, file: int, start: int, stop: int
) -> None:
    wire = wire_of(peer)
    sending = asyncio.create_task(wire.send_file(file, start, stop))
    assert await peer.receive(stop - start) == BODY[start:stop]
    await sending
    assert wire.sent_bytes == stop - start
    os.close(file)


async def test_small_writes_and_file_bytes_keep_their_order(peer: Peer, file: int) -> None:
    wire = wire_of(peer)

    async def send() -> None:
        for part in range(8):
            await wire.write(b"<%d>" % part)
            await wire.send_file(file, part * 1000, (part + 1) * 1000)
        await wire.write(BODY)

    sending = asyncio.create_task(send())
    expected = b"".join(b"<%d>" % part + BODY[part * 1000 : (part + 1) * 1000] for part in range(8)) + BODY
    assert await peer.receive(len(expected)) == expected
    await sending
    os.close(file)


async def test_others_get_their_turn_after_each_bounded_part(
    peer: Peer, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    others: list[int] = []

    def sendfile(_out: int, _fd: int, _at: int, size: int) -> int:
        calls.append(size)
        return size

    monkeypatch.setattr(os, "sendfile", sendfile)

    async def other() -> None:
        while True:
            others.append(len(calls))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await wire_of(peer, turn_bytes=1000).send_file(file, 0, 5500)
    task.cancel()
    assert calls == [1000] * 5 + [500]
    assert {1, 2, 3, 4, 5} <= set(others)
    os.close(file)


@pytest.mark.parametrize("min_rate_bps", [0, 1024])
@pytest.mark.parametrize("what", ["file", "bytes"])
async def test_a_client_that_leaves_while_the_socket_is_full_is_noticed(
    peer: Peer, file: int, what: str, min_rate_bps: int
) -> None:
    wire = wire_of(peer, min_rate_bps=min_rate_bps)
    sending = asyncio.create_task(wire.send_file(file, 0, len(BODY)) if what == "file" else wire.write(BODY))
    await blocked(sending, wire)
    peer.client.close()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(sending, 5)
    os.close(file)


@pytest.mark.parametrize("min_rate_bps", [0, 1024])
async def test_a_connection_that_is_closed_on_our_side_wakes_its_sender(
    peer: Peer, file: int, min_rate_bps: int
) -> None:
    wire = wire_of(peer, min_rate_bps=min_rate_bps)
    sending = asyncio.create_task(wire.send_file(file, 0, len(BODY)))
    await blocked(sending, wire)
    wire.abort()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(sending, 5)
    os.close(file)


async def test_a_connection_that_goes_while_a_cold_file_is_read_is_not_written_to(
    peer: Peer, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, sent = threading.Event(), threading.Event(), []

    def slow(_fd: int, _start: int, _stop: int) -> None:
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr(room, "resident", lambda _fd, _start, _stop: False)
    monkeypatch.setattr(room, "read_through", slow)
    monkeypatch.setattr(os, "sendfile", lambda *args: sent.append(args))
    wire = wire_of(peer)
    sending = asyncio.create_task(wire.send_file(file, 0, 10))
    await asyncio.to_thread(begun.wait, 10)
    wire.abort()
    await peer.lost.wait()
    go_on.set()
    with pytest.raises(ClientGone):
        await sending
    assert sent == [], "the descriptor may be another client's by now"
    os.close(file)


async def test_who_is_cancelled_while_a_cold_file_is_read_waits_for_the_thread(
    peer: Peer, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_fd: int, _start: int, _stop: int) -> None:
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr(room, "resident", lambda _fd, _start, _stop: False)
    monkeypatch.setattr(room, "read_through", slow)
    sending = asyncio.create_task(wire_of(peer).send_file(file, 0, 10))
    await asyncio.to_thread(begun.wait, 10)
    sending.cancel()
    await settled()
    assert not sending.done(), "its caller would close the file under the thread"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    os.close(file)


async def test_nothing_is_sent_to_a_client_that_has_gone(peer: Peer, file: int) -> None:
    wire = wire_of(peer)
    wire.abort()
    with pytest.raises(ClientGone):
        await wire.write(b"x")
    with pytest.raises(ClientGone):
        await wire.send_file(file, 0, 10)
    assert wire.sent_bytes == 0
    os.close(file)


@pytest.mark.parametrize("what", ["file", "bytes"])
async def test_a_client_that_takes_nothing_is_cut_after_the_window(
    peer: Peer, file: int, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(room, "RATE_WINDOW_S", 0.05)
    wire = wire_of(peer)
    with pytest.raises(ClientGone, match="too slowly"):
        await (wire.send_file(file, 0, len(BODY)) if what == "file" else wire.write(BODY))
    os.close(file)


class Ticking:
    """The loop's time, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(room, "awake_s", self.time)

    def time(self) -> float:
        """See ``asyncio.AbstractEventLoop.time``."""
        return self.now_s


async def wait_for_client(wire: Wire, clock: Ticking, seconds: float) -> None:
    """As if the client had let the node wait that long."""

    async def passing() -> None:
        clock.now_s += seconds

    await wire._within_rate(passing)


async def test_a_client_that_takes_too_little_is_cut(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = wire_of(peer, min_rate_bps=1000)
    clock = Ticking(monkeypatch)
    for _ in range(29):
        await wait_for_client(wire, clock, 1.0)
        wire.sent_bytes += 900
    with pytest.raises(ClientGone, match="too slowly"):
        await wait_for_client(wire, clock, 1.0)


async def test_a_client_is_judged_by_what_it_takes_of_what_the_kernel_holds_for_it(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    window_s = 0.5
    monkeypatch.setattr(room, "RATE_WINDOW_S", window_s)
    async with connected(over_tcp=True, buffer_bytes=1 << 18) as peer:
        wire = wire_of(peer, min_rate_bps=10_000)
        sending = asyncio.create_task(wire.send_file(file, 0, len(BODY)))
        await blocked(sending, wire)
        sent = wire.sent_bytes
        began_s, taken = asyncio.get_running_loop().time(), b""
        while asyncio.get_running_loop().time() - began_s < 3 * window_s:
            taken += await peer.receive(4096)
            await asyncio.sleep(0.05)  # the pace is what is tested: 80,000 bytes a second, at most
        assert (sending.done(), wire.sent_bytes) == (False, sent), "the kernel held enough all the time"
        with pytest.raises(ClientGone, match="too slowly"):
            await sending
        assert peer.transport is not None
        peer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await peer.rest()
    assert taken == BODY[: len(taken)]
    os.close(file)


async def test_a_client_that_takes_enough_is_not_cut(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = wire_of(peer, min_rate_bps=1000)
    clock = Ticking(monkeypatch)
    for _ in range(100):
        await wait_for_client(wire, clock, 1.0)
        wire.sent_bytes += 1100


async def test_a_client_is_not_cut_for_a_slow_source_or_for_its_own_silence(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = wire_of(peer, min_rate_bps=1000)
    clock = Ticking(monkeypatch)
    for _ in range(50):
        clock.now_s += 3.0  # a small answer every three seconds, taken at once
        await wire.write(b"x" * 300)
    assert await peer.receive(50 * 300) == b"x" * 300 * 50


async def test_a_file_that_is_too_short_is_a_disk_error(peer: Peer, file: int) -> None:
    wire = wire_of(peer)
    sending = asyncio.create_task(wire.send_file(file, len(BODY) - 10, len(BODY) + 10))
    assert await peer.receive(10) == BODY[-10:]
    with pytest.raises(DiskError):
        await sending
    assert wire.sent_bytes == 10, "the caller knows how far it came"
    os.close(file)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EIO, DiskError), (errno.EPIPE, ClientGone), (errno.ECONNRESET, ClientGone), (errno.ENOMEM, DiskError)],
)
async def test_an_error_of_sendfile_is_the_disks_or_the_clients(
    peer: Peer, file: int, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    monkeypatch.setattr(os, "sendfile", _raising(number))
    with pytest.raises(error):
        await wire_of(peer).send_file(file, 0, 10)
    os.close(file)


def _raising(number: int) -> Callable[..., int]:
    def sendfile(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    return sendfile


async def test_a_cancelled_sender_leaves_the_socket_alone(peer: Peer, file: int) -> None:
    wire = wire_of(peer)
    sending = asyncio.create_task(wire.send_file(file, 0, len(BODY)))
    await blocked(sending, wire)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await peer.receive(wire.sent_bytes) == BODY[: wire.sent_bytes]
    os.close(file)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_bytes_that_may_not_be_sent_any_more_are_not(
    peer: Peer, file: int, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "TLS_CHUNK_BYTES", 1000)
    wire, asked = wire_of(peer, turn_bytes=10_000 if secure else 1000), 0

    def still(_start: int, _stop: int) -> bool:
        nonlocal asked
        asked += 1
        return asked <= 3

    send = wire._send_read if secure else wire.send_file
    await send(file, 0, 5500, still)
    assert wire.sent_bytes == 3000
    assert await peer.receive(3000) == BODY[:3000]
