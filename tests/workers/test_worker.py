"""A worker, here in the test's own process: what it makes of what its owner says, and what it says itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cacheserver.web.heads import HitLines
from cacheserver.web.hot_table import Label
from cacheserver.workers import messages
from cacheserver.workers.channel import Channel, socket_pair
from cacheserver.workers.worker import Worker
from tests.support.flow import eventually

CONFIGURE = messages.Configure(
    fast_lane=True,
    access_log="",
    services=("own",),
    subnets=(),
    turn_bytes=1 << 20,
    idle_timeout_s=60.0,
    min_send_rate_bps=0,
)


@dataclass(slots=True)
class Owner:
    """The owner's end, and what it has heard."""

    channel: Channel
    worker: Worker
    heard: list[messages.ToOwner] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def say(self, message: messages.ToWorker, fd: int = -1) -> None:
        assert self.channel.send(messages.encode(message), fd)

    async def hear(self, kind: type) -> messages.ToOwner:
        async def there() -> bool:
            return any(isinstance(message, kind) for message in self.heard)

        await eventually(there)
        return next(message for message in self.heard if isinstance(message, kind))


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    ours, theirs = socket_pair()
    heard: list[messages.ToOwner] = []
    fds: list[int] = []

    def listen(data: memoryview, fd: int) -> None:
        heard.append(messages.to_owner.decode(data))
        if fd >= 0:
            fds.append(fd)

    channel = Channel(ours, on_message=listen, on_lost=lambda: None)
    owner = Owner(channel, Worker(theirs), heard, fds)
    owner.say(CONFIGURE)
    yield owner
    await owner.worker.stop()
    channel.close()
    for fd in fds:
        os.close(fd)


def client_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        sock, _address = server.accept()
        return client, sock


async def test_a_connection_that_was_on_its_way_when_the_drain_began_goes_back_with_its_request(owner: Owner) -> None:
    client, sock = client_pair()
    with client, sock:
        owner.say(messages.Take(b"GET /asked HTTP/1.1\r\nHost: a.test\r\n\r\n"), sock.fileno())
        owner.say(messages.Drain(5.0))
        back = await owner.hear(messages.HandBack)
        assert isinstance(back, messages.HandBack)
        assert back.first.startswith(b"GET /asked ")
        assert len(owner.fds) == 1
        async with asyncio.timeout(1):
            await owner.worker.done.wait()


async def test_a_client_may_have_sent_more_than_fits_into_one_message(owner: Owner) -> None:
    client, sock = client_pair()
    first = bytes(range(256)) * 1600
    with client, sock:
        owner.say(messages.Take(), sock.fileno())

        async def joined() -> bool:
            return bool(owner.worker._connections)

        await eventually(joined)
        (connection,) = owner.worker._connections
        connection.data_received(first)
        await owner.hear(messages.HandBack)
        parts = [message.data for message in owner.heard if isinstance(message, messages.Early)]
        parts += [message.first for message in owner.heard if isinstance(message, messages.HandBack)]
        assert len(parts) > 1
        assert b"".join(parts) == first


async def test_a_connection_that_cannot_be_sent_is_reported_without_one_so_that_its_bytes_go_to_nobody_else(
    owner: Owner,
) -> None:
    assert owner.worker.hand_back(2**30, bytes(200_000))
    back = await owner.hear(messages.HandBack)
    assert (back, owner.fds) == (messages.HandBack(b""), [])


async def test_an_object_for_which_no_descriptor_was_free_is_given_back_all_the_same(owner: Owner) -> None:
    lines = HitLines(kept=b"", lifetime_s=float("inf"), age_on_arrival_s=0.0, arrived_s=0.0, trust=0)
    owner.say(messages.Lend(7, 1000, 1000))
    owner.say(messages.Learn(b"shape", 7, Label("own", "host", "a.test", "/", None), 1e9, lines))
    owner.say(messages.Withdraw(7, False))
    assert await owner.hear(messages.Given) == messages.Given(7)


async def test_an_answer_that_the_end_cuts_is_reported(owner: Owner, tmp_path: Path) -> None:
    size = 64 << 20
    lines = HitLines(kept=b"", lifetime_s=float("inf"), age_on_arrival_s=0.0, arrived_s=0.0, trust=0)
    head = b"GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n"
    with open(tmp_path / "large", "wb+") as file:
        file.truncate(size)
        owner.say(messages.Lend(1, size, 1 << 20), file.fileno())
    owner.say(messages.Learn(head, 1, Label("own", "host", "a.test", "/large", None), 1e12, lines))
    client, sock = client_pair()
    with client:
        with sock:
            owner.say(messages.Take(head), sock.fileno())
        client.settimeout(5)
        assert (await asyncio.to_thread(client.recv, 12)) == b"HTTP/1.1 200"
        await owner.worker.stop()
        report = await owner.hear(messages.Report)
        assert isinstance(report, messages.Report)
        assert report.requests == 1
