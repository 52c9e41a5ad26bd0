"""The way between owner and worker: whole messages, in order, with their descriptors, and an end that is noticed."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field

from cacheserver.workers.channel import Channel, socket_pair
from cacheserver.workers.messages import LIMIT_BYTES
from tests.support.flow import eventually


@dataclass(slots=True)
class End:
    """One end and what it has heard."""

    channel: Channel
    heard: list[tuple[bytes, int]] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


def end(sock: socket.socket) -> End:
    heard: list[tuple[bytes, int]] = []
    lost = asyncio.Event()
    channel = Channel(sock, on_message=lambda data, fd: heard.append((bytes(data), fd)), on_lost=lost.set)
    return End(channel, heard, lost)


def two_ends() -> tuple[End, End]:
    one, other = socket_pair()
    return end(one), end(other)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def heard(listener: End, count: int) -> None:
    async def all_there() -> bool:
        return len(listener.heard) >= count

    await eventually(all_there)


async def test_messages_come_whole_and_in_order_however_many_are_sent_at_once() -> None:
    speaker, listener = two_ends()
    sent = [bytes([number % 251]) * (1 + number * 37 % 90_000) for number in range(500)]
    assert all(speaker.channel.send(data) for data in sent)
    await heard(listener, len(sent))
    assert [data for data, _fd in listener.heard] == sent
    speaker.channel.close()
    listener.channel.close()


async def test_a_descriptor_comes_with_its_message_and_stays_the_senders_too() -> None:
    before = open_descriptors()
    speaker, listener = two_ends()
    inner, outer = socket.socketpair()
    for number in range(200):  # more than fit at once, so that some have to wait
        assert speaker.channel.send(b"%d" % number * 2000, outer.fileno())
    outer.close()
    await heard(listener, 200)
    for _data, fd in listener.heard:
        assert not os.get_inheritable(fd)
        os.write(fd, b"x")
        os.close(fd)
    assert inner.recv(1000) == b"x" * 200
    inner.close()
    speaker.channel.close()
    listener.channel.close()
    assert open_descriptors() == before


async def test_a_message_beyond_the_limit_is_not_sent() -> None:
    speaker, listener = two_ends()
    assert not speaker.channel.send(bytes(LIMIT_BYTES + 1))
    assert speaker.channel.send(b"next")
    await heard(listener, 1)
    assert listener.heard == [(b"next", -1)]
    speaker.channel.close()
    listener.channel.close()


async def test_the_end_of_one_side_is_told_to_the_other_once_and_nothing_stays_open() -> None:
    before = open_descriptors()
    speaker, listener = two_ends()
    reading, writing = os.pipe()
    assert listener.channel.send(b"kept", writing)
    speaker.channel.close()
    async with asyncio.timeout(5):
        await listener.lost.wait()
    assert not listener.channel.send(b"more", writing)
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert open_descriptors() == before


async def test_a_side_that_does_not_read_is_given_up_rather_than_waited_for() -> None:
    one, other = socket_pair()
    speaker = end(one)
    sent = 0
    while speaker.channel.send(b"x" * 100) and sent < 200_000:
        sent += 1
    assert speaker.lost.is_set()
    assert sent < 200_000
    other.close()
