"""One response: framed as its head says, and never made to look complete when it is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cacheserver.core.errors import DiskError
from cacheserver.web.heads import Head
from cacheserver.web.sending.response import ResponseWriter
from tests.support.content import blob
from tests.support.sockets import Peer, connected, wire_over
from tests.support.stored import HandClock

BODY = blob(6, 200_000)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    async with connected() as peer:
        wire_over(peer)
        yield peer


def channel_of(peer: Peer, *, method: str = "GET", http_10: bool = False, keep_alive: bool = True) -> ResponseWriter:
    assert peer.wire is not None
    return ResponseWriter(peer.wire, method=method, http_10=http_10, keep_alive=keep_alive)


async def received(peer: Peer) -> tuple[bytes, bytes]:
    """Head and body of all that was sent; the node's side is closed first."""
    if peer.transport is not None:
        peer.transport.close()
    head, _, body = (await peer.rest()).partition(b"\r\n\r\n")
    return head, body


async def test_a_body_of_its_announced_length_keeps_the_connection(peer: Peer) -> None:
    channel = channel_of(peer)
    await channel.start(Head(200, (), 5))
    await channel.write(b"he")
    await channel.write(b"")
    await channel.write(b"llo")
    await channel.finish()
    assert (channel.keep_alive, channel.status, channel.body_bytes) == (True, 200, 5)
    head, body = await received(peer)
    assert b"Content-Length: 5" in head
    assert body == b"hello"


@pytest.mark.parametrize("sent", [0, 1, 4])
async def test_a_short_body_is_cut_and_never_completed(peer: Peer, sent: int) -> None:
    channel = channel_of(peer)
    await channel.start(Head(200, (), 5))
    await channel.write(b"hello"[:sent])
    await channel.finish()
    assert not channel.keep_alive
    await peer.lost.wait()
    assert (await received(peer))[1] == b"hello"[:sent]


@pytest.mark.parametrize(("begun", "more"), [(b"", b"hello!"), (b"hello", b"!")])
async def test_a_body_longer_than_announced_is_cut_before_the_surplus(peer: Peer, begun: bytes, more: bytes) -> None:
    channel = channel_of(peer)
    await channel.start(Head(200, (), 5))
    await channel.write(begun)
    with pytest.raises(ValueError, match="announced"):
        await channel.write(more)
    assert not channel.keep_alive
    assert len((await received(peer))[1]) <= 5


async def test_a_body_without_a_length_is_chunked(peer: Peer) -> None:
    channel = channel_of(peer)
    await channel.start(Head(200, (), None))
    for part in (b"hello", b"", BODY[:300]):
        await channel.write(part)
    await channel.finish()
    assert (channel.keep_alive, channel.body_bytes) == (True, 305)
    head, body = await received(peer)
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"5\r\nhello\r\n12c\r\n" + BODY[:300] + b"\r\n0\r\n\r\n"


async def test_a_chunked_body_that_breaks_has_no_last_chunk(peer: Peer) -> None:
    channel = channel_of(peer)
    await channel.start(Head(200, (), None))
    await channel.write(b"hello")
    channel.cut()
    assert not channel.keep_alive
    assert (await received(peer))[1] == b"5\r\nhello\r\n"


async def test_an_http_10_client_gets_a_body_that_ends_with_the_connection(peer: Peer) -> None:
    channel = channel_of(peer, http_10=True)
    await channel.start(Head(200, (), None))
    await channel.write(b"hello")
    await channel.finish()
    assert not channel.keep_alive
    head, body = await received(peer)
    assert b"Connection: close" in head
    assert b"Transfer-Encoding" not in head
    assert body == b"hello"


@pytest.mark.parametrize("length", [0, 5, None])
async def test_head_has_the_head_of_a_get_and_no_body(peer: Peer, length: int | None) -> None:
    channel = channel_of(peer, method="HEAD")
    await channel.start(Head(200, (), length))
    await channel.write(b"hello")
    await channel.finish()
    assert (channel.keep_alive, channel.body_bytes) == (True, 0)
    head, body = await received(peer)
    assert (b"Transfer-Encoding: chunked" in head) is (length is None)
    assert body == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_a_bodiless_status_has_no_body_and_no_framing(peer: Peer, status: int) -> None:
    channel = channel_of(peer)
    await channel.start(Head(status, (), None))
    await channel.write(b"hello")
    await channel.finish()
    assert channel.keep_alive
    head, body = await received(peer)
    assert b"Transfer-Encoding" not in head
    assert body == b""


@pytest.mark.parametrize(("keep_alive", "close"), [(False, False), (True, True)])
async def test_a_connection_that_ends_says_so(peer: Peer, keep_alive: bool, close: bool) -> None:
    channel = channel_of(peer, keep_alive=keep_alive)
    await channel.start(Head(200, (), 0), close=close)
    await channel.finish()
    assert not channel.keep_alive
    assert b"Connection: close" in (await received(peer))[0]


async def test_there_is_one_response_per_channel(peer: Peer) -> None:
    channel = channel_of(peer)
    before = channel.head_sent
    await channel.start(Head(200, (), 0))
    assert (before, channel.head_sent) == (False, True)
    with pytest.raises(AssertionError):
        await channel.start(Head(200, (), 0))


async def test_a_file_counts_as_body(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    fd = os.open(tmp_path / "body", os.O_RDONLY)
    channel = channel_of(peer)

    async def send() -> None:
        await channel.start(Head(200, (), len(BODY) + 1))
        await channel.write(b"<")
        await channel.send_file(fd, 0, len(BODY))
        await channel.finish()

    sending = asyncio.create_task(send())
    assert (await peer.response())[1] == b"<" + BODY
    await sending
    assert (channel.keep_alive, channel.body_bytes) == (True, len(BODY) + 1)
    os.close(fd)


async def test_a_failing_disk_leaves_the_count_of_what_went_out(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"hello")
    fd = os.open(tmp_path / "body", os.O_RDONLY)
    channel = channel_of(peer)
    await channel.start(Head(200, (), 10))
    with pytest.raises(DiskError):
        await channel.send_file(fd, 0, 10)
    assert channel.body_bytes == 5
    await channel.write(b"world")
    await channel.finish()
    assert channel.keep_alive, "the rest came from elsewhere"
    assert (await received(peer))[1] == b"helloworld"
    os.close(fd)


async def test_a_response_that_does_not_start_in_time_is_given_up(peer: Peer) -> None:
    channel = channel_of(peer)
    with pytest.raises(TimeoutError):
        async with channel.starting_within(0.01, HandClock()):
            await asyncio.Event().wait()
    await channel.start(Head(504, (), 0))  # the answer that follows has no deadline
    assert channel.started_s is None


async def test_a_response_that_has_started_has_no_deadline_any_more(peer: Peer) -> None:
    channel, clock = channel_of(peer), HandClock()
    async with channel.starting_within(60, clock):
        assert channel._deadline is not None
        deadline, _ = channel._deadline
        before = deadline.pending
        await channel.start(Head(200, (), 0))
        assert (before, deadline.pending) == (True, False)
    assert channel.started_s == clock.monotonic_s()
