"""A connection that was kept and proved dead costs nobody an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import BadAnswer, ConnectFailed, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.outgoing.resolver import Resolver
from cacheserver.system.clock import SystemClock
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.options import UpstreamOptions
from tests.support.flow import eventually

SERVICE = Service(name="own", hosts=("localhost",), own=True)
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """Answers ``answered`` requests on each connection, then does what ``end`` says at the next."""

    def __init__(self, end: str, answered: int = 1) -> None:
        self.end = end
        self.answered = answered
        self.connections = self.ended = 0
        self.requests: list[bytes] = []
        self.warm = asyncio.Barrier(1)
        self.answer = OK
        self.parts: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        count = 0
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                count += 1
                if count > self.answered:
                    break
                async with self.warm:
                    for part in self.parts or [self.answer]:
                        writer.write(part)
                        await asyncio.sleep(0)
            await self.finish(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.transport.abort()

    async def finish(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.end == "part":
            writer.write(OK[:20])
            await writer.drain()
        elif self.end == "408":
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        elif self.end == "silence":
            await reader.read()
        elif self.end == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.end != "reset":
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def asking(origin: Origin, *, head_timeout_s: float = 8.0) -> AsyncIterator[tuple[UpstreamClient, Source]]:
    async with await asyncio.start_server(origin.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        resolver = Resolver(connect_to={"localhost": ("127.0.0.1", port)})
        client = UpstreamClient(
            options=UpstreamOptions(head_timeout_s=head_timeout_s, connect_timeout_s=0.1),
            resolver=resolver,
            redirect=lambda _request, _location: None,
            clock=SystemClock(),
            count=lambda *_facts: None,
            user_agent="test/1",
        )
        try:
            yield client, Source("http", "localhost", port, "/x")
        finally:
            await client.close()
            await resolver.close()


async def get(client: UpstreamClient, place: Source, method: str = "GET") -> bytes:
    answer = await client.open(UpstreamRequest(method, place, Fields(), SERVICE))
    try:
        return await answer.read_all(100)
    finally:
        answer.close()


@pytest.mark.parametrize("end", ["end", "reset", "part", "408"])
async def test_a_request_on_a_kept_connection_that_is_dead_is_sent_once_more_on_a_new_one(end: str) -> None:
    origin = Origin(end)
    async with asking(origin) as (client, place):
        assert [await get(client, place) for _ in range(4)] == [b"ok"] * 4
    assert (origin.connections, len(origin.requests)) == (4, 7)


async def test_one_dead_connection_ends_all_that_are_kept_to_that_host() -> None:
    origin = Origin("reset")
    origin.warm = asyncio.Barrier(6)
    async with asking(origin) as (client, place):
        assert await asyncio.gather(*(get(client, place) for _ in range(6))) == [b"ok"] * 6
        origin.warm = asyncio.Barrier(1)
        assert await get(client, place) == b"ok"
        assert (origin.connections, len(origin.requests)) == (7, 8)

        async def closed() -> bool:
            return origin.ended == 6

        await eventually(closed)


@pytest.mark.parametrize("target", ["/x?", "/x", "/x?a?", "/?", "//a//b?%2f%2F", "/{a}|^`?[1]", "/a?b=c#d"])
async def test_a_target_goes_upstream_byte_for_byte(target: str) -> None:
    origin = Origin("end")
    async with asking(origin) as (client, place):
        await get(client, replace(place, path_and_query=target))
    head = origin.requests[0].split(b"\r\n")
    assert head[0] == f"GET {target} HTTP/1.1".encode()
    assert head[1] == f"Host: localhost:{place.port}".encode()


async def test_a_source_that_is_an_ipv6_literal_is_asked() -> None:
    origin = Origin("end")
    async with await asyncio.start_server(origin.serve, "::1", 0) as server, asking(origin) as (client, _place):
        port = server.sockets[0].getsockname()[1]
        for host in ("::1", "[::1]"):
            assert await get(client, Source("http", host, port, "/x")) == b"ok"
    assert f"Host: [::1]:{port}".encode() in origin.requests[0]


@pytest.mark.parametrize("parts", [[EVIL], [EVIL[:20], EVIL[20:]], [b"\r\n"]], ids=["whole", "parts", "empty line"])
async def test_an_answer_that_nobody_asked_for_is_not_that_to_the_next_request(parts: list[bytes]) -> None:
    origin = Origin("end", answered=9)
    async with asking(origin) as (client, place):
        assert await get(client, place) == b"ok"
        assert client._session is not None
        for part in parts:
            origin.writers[0].write(part)
            await origin.writers[0].drain()
        await eventually(partial(ended, client))
        assert await get(client, place) == b"ok"
    assert origin.connections == 2


async def test_what_follows_an_answer_at_once_is_not_that_to_the_next_request() -> None:
    origin = Origin("end", answered=9)
    origin.answer = OK + EVIL
    async with asking(origin) as (client, place):
        assert [await get(client, place) for _ in range(3)] == [b"ok"] * 3
    assert origin.connections == 3


CR_LF, LF = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 200 OK\nX-A: 1\nContent-Length: 2\n\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("whole", [True, False], ids=["at once", "byte for byte"])
@pytest.mark.parametrize(
    ("head", "good"),
    [
        (CR_LF, True),
        (LF, True),
        (CR_LF.replace(b"1\r\n", b"1\n", 1), False),
        (CR_LF.replace(b"1\r\nC", b"1\nX-Injected: 1\r\nC"), False),
        (CR_LF.replace(b"OK\r\n", b"OK\n"), False),
        (LF.replace(b"OK\n", b"OK\r\n"), False),
        (HINTS + CR_LF.replace(b"1\r\nC", b"1\nX-Injected: 1\r\nC"), False),
        (HINTS.replace(b">\r", b">\nX: 1\r") + CR_LF, False),
        (HINTS + LF, True),
    ],
)
async def test_a_head_that_mixes_line_ends_is_a_bad_answer(head: bytes, good: bool, whole: bool) -> None:
    origin = Origin("end", answered=9)
    origin.parts = [head + b"\n\r"] if whole else [bytes((byte,)) for byte in head + b"\n\r"]
    async with asking(origin) as (client, place):
        if good:
            assert await get(client, place) == b"\n\r"
        else:
            with pytest.raises(BadAnswer):
                await get(client, place)


async def test_interim_answers_come_before_the_answer() -> None:
    origin = Origin("end", answered=9)
    origin.answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + OK
    async with asking(origin) as (client, place):
        assert [await get(client, place) for _ in range(3)] == [b"ok"] * 3
    assert origin.connections == 1


async def ended(client: UpstreamClient) -> bool:
    """Whether no connection is kept."""
    assert client._session is not None
    assert client._session.connector is not None
    kept = client._session.connector._conns.values()
    return not any(protocol.is_connected() for connections in kept for protocol, _since_s in connections)


async def test_a_new_connection_that_breaks_is_not_tried_again_here() -> None:
    origin = Origin("end", answered=0)
    async with asking(origin) as (client, place):
        with pytest.raises(ConnectFailed):
            await get(client, place)
    assert origin.connections == 1


async def test_a_kept_connection_that_stays_silent_ends_those_that_are_kept_with_it() -> None:
    origin = Origin("silence")
    origin.warm = asyncio.Barrier(3)
    async with asking(origin, head_timeout_s=0.2) as (client, place):
        await asyncio.gather(*(get(client, place) for _ in range(3)))
        origin.warm = asyncio.Barrier(1)
        with pytest.raises(UpstreamTimeout):
            await get(client, place)
        assert await get(client, place) == b"ok"
    assert origin.connections == 4


async def test_what_is_sent_and_never_acknowledged_ends_a_connection() -> None:
    origin = Origin("end")
    async with asking(origin) as (client, place):
        await get(client, place)
        assert client._session is not None
        assert client._session.connector is not None
        ((protocol, _since_s),) = next(iter(client._session.connector._conns.values()))
        assert protocol.transport is not None
        kept = protocol.transport.get_extra_info("socket")
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1100
