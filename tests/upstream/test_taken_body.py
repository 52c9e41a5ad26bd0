"""Bodies that threads receive: the same bytes and faults as when they are read, and connections that are kept."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cacheserver.core.cache.sources import ORIGIN, Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import TruncatedBody, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.outgoing.resolver import Resolver
from cacheserver.system.clock import SystemClock
from cacheserver.upstream.client import Answer, UpstreamClient
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.upstream.taken_body import LEAST_BYTES
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.origin import Origin

BODY = blob(7, 5_000_000)
SERVICE = Service(name="own", hosts=("localhost",), own=True)


@asynccontextmanager
async def asking(fault: Fault | None = None, body: bytes = BODY, **options: object) -> AsyncIterator[Asking]:
    async with Origin() as origin:
        origin.add("/x", Content(body))
        if fault is not None:
            origin.fault("/x", always=fault)
        port = int(origin.address.rpartition(":")[2])
        resolver = Resolver(connect_to={"localhost": ("127.0.0.1", port)})
        client = UpstreamClient(
            options=UpstreamOptions(stall_timeout_s=0.3, **options),  # type: ignore[arg-type]
            resolver=resolver,
            redirect=lambda _request, _location: None,
            clock=SystemClock(),
            count=lambda *_facts: None,
            user_agent="test/1",
        )
        before = open_descriptors()
        try:
            yield Asking(origin, client, Source("http", "localhost", port, "/x", ORIGIN))
        finally:
            await client.close()
            await resolver.close()

            async def closed() -> bool:
                return open_descriptors() <= before

            await eventually(closed)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Asking:
    def __init__(self, origin: Origin, client: UpstreamClient, place: Source) -> None:
        self.origin = origin
        self.client = client
        self.place = place
        self.got = bytearray()
        self.received = 0
        """Bytes that ``take`` had."""

    async def open(self) -> Answer:
        return await self.client.open(UpstreamRequest("GET", self.place, Fields(), SERVICE))

    async def take(self, sock: socket.socket, most: int) -> int:
        """Like a thread of the store, at most 300,000 bytes at a time."""
        try:
            data = await asyncio.to_thread(sock.recv, min(most, 300_000))
        except BlockingIOError:
            return 0
        if not data:
            raise EOFError
        self.got += data
        self.received += len(data)
        return len(data)

    async def whole(self) -> bytes:
        """One answer to its end, read until it can be received."""
        self.got.clear()
        answer = await self.open()
        try:
            while True:
                if await answer.receive(self.take, 1 << 20) is None:
                    data = await answer.read()
                    if not data:
                        break
                    self.got += data
        finally:
            answer.close()
        return bytes(self.got)


async def test_the_connection_is_used_again_after_its_body_was_received() -> None:
    async with asking() as ask:
        for _ in range(3):
            assert await ask.whole() == BODY
        assert ask.received > len(BODY)
        assert len({record.connection for record in ask.origin.asked("/x")}) == 1


async def test_a_short_answer_comes_at_once_on_a_connection_whose_body_was_waited_for() -> None:
    async with asking(Fault(rate_bps=20_000_000)) as ask:
        ask.origin.add("/short", Content(b"short"))
        assert await ask.whole() == BODY
        answer = await ask.client.open(
            UpstreamRequest("GET", replace(ask.place, path_and_query="/short"), Fields(), SERVICE)
        )
        assert await answer.read_all(100) == b"short"
        answer.close()
        (long,), (short,) = ask.origin.asked("/x"), ask.origin.asked("/short")
        assert long.connection == short.connection


async def test_who_still_reads_an_earlier_body_of_the_connection_takes_nothing_of_the_one_that_is_received() -> None:
    """aiohttp has a connection used again once a body has come, read or not, and has it receive as that one is read."""
    earlier = blob(8, 60_000)
    async with asking(Fault(rate_bps=20_000_000)) as ask:
        ask.origin.add("/earlier", Content(earlier))
        first = await ask.client.open(
            UpstreamRequest("GET", replace(ask.place, path_and_query="/earlier"), Fields(), SERVICE)
        )
        await asyncio.sleep(0.05)  # it has come whole then
        second = await ask.open()
        assert await second.receive(ask.take, 1 << 20) is None
        ask.got += await second.read()
        assert await second.receive(ask.take, 1 << 16)
        assert await first.read_all(len(earlier)) == earlier
        while len(ask.got) < len(BODY):
            assert await second.receive(ask.take, 1 << 20)
        assert bytes(ask.got) == BODY
        (old,), (new,) = ask.origin.asked("/earlier"), ask.origin.asked("/x")
        assert old.connection == new.connection
        first.close()
        second.close()


async def test_what_was_begun_to_be_received_can_be_read_and_received_again() -> None:
    async with asking() as ask:
        answer = await ask.open()
        assert await answer.receive(ask.take, 1 << 20) is None
        while len(ask.got) < len(BODY):
            ask.got += await answer.read()
            await answer.receive(ask.take, 1 << 16)
        assert bytes(ask.got) == BODY
        assert ask.received
        assert not await answer.read()
        answer.close()


@pytest.mark.parametrize(
    ("fault", "body", "options"),
    [
        (Fault(framing="chunked"), BODY, {}),
        (Fault(framing="close"), BODY, {}),
        (None, BODY[: LEAST_BYTES - 1], {}),
        (None, BODY, {"threads_receive": False}),
    ],
    ids=["chunked", "delimited by close", "short", "by setting"],
)
async def test_other_bodies_are_read(fault: Fault | None, body: bytes, options: dict[str, bool]) -> None:
    async with asking(fault, body, **options) as ask:
        assert await ask.whole() == body
        assert not ask.received


@pytest.mark.parametrize("end", [Fault(truncate_after=3_000_000), Fault(reset_after=3_000_000)])
async def test_a_body_that_breaks_off_is_truncated(end: Fault) -> None:
    async with asking(end) as ask:
        with pytest.raises(TruncatedBody):
            await ask.whole()
        assert 0 < len(ask.got) <= 3_000_000
        assert bytes(ask.got) == BODY[: len(ask.got)]


async def test_a_body_that_stalls_is_given_up() -> None:
    async with asking(Fault(stall_after=3_000_000)) as ask:
        with pytest.raises(UpstreamTimeout):
            await ask.whole()
        assert bytes(ask.got) == BODY[:3_000_000]


async def test_a_connection_with_bytes_behind_its_body_is_not_used_again() -> None:
    async with asking(Fault(length_deltas=(-9,))) as ask:
        for _ in range(2):
            assert await ask.whole() == BODY[:-9]
        assert len({record.connection for record in ask.origin.asked("/x")}) == 2


async def test_one_that_is_cancelled_or_closed_on_the_way_leaves_nothing_open() -> None:
    async with asking(Fault(stall_after=3_000_000)) as ask:
        whole = asyncio.ensure_future(ask.whole())

        async def stalled() -> bool:
            return len(ask.got) == 3_000_000

        await eventually(stalled)
        whole.cancel()
        await asyncio.wait((whole,))
        assert whole.cancelled()
