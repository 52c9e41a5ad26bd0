"""Deadlines and bounds of every listener: what makes no request is ended, plain and TLS, content and admin."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from aiohttp import web

from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.web.accepting import SecureServer
from cacheserver.web.admin import connections as admin_connections
from cacheserver.web.admin.connections import AdminConnections
from cacheserver.web.connection_shares import ConnectionShares
from cacheserver.web.guarded_connection import GuardedConnection
from tests.support.certificates import NAME, cert_pem, key_pem, write_pair
from tests.support.flow import eventually
from tests.support.tls_scene import PKI

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Listening:
    """One listener with a share of two connections for a client."""

    def __init__(self, *, head_timeout_s: float, idle_s: float) -> None:
        self.limits: list[str] = []
        self.server = web.Server(self._answer)
        self.shares = ConnectionShares(
            most=8,
            per_client=2,
            shared=SharedNetworks(),
            on_limit=lambda limit, _address: self.limits.append(limit),
            frees=False,
        )
        self._times = head_timeout_s, idle_s
        self.address: tuple[str, int] = ("", 0)
        self.trusted: ssl.SSLContext | None = None

    async def _answer(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="ok")

    def __call__(self) -> GuardedConnection:
        head_timeout_s, idle_s = self._times
        loop = asyncio.get_running_loop()
        return GuardedConnection(
            self.server, shares=self.shares, head_timeout_s=head_timeout_s, loop=loop, keepalive_timeout=idle_s
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self.trusted is None else NAME
        return await asyncio.open_connection(*self.address, ssl=self.trusted, server_hostname=name)


@asynccontextmanager
async def listening(
    folder: Path | None = None, *, head_timeout_s: float = 10.0, idle_s: float = 60.0, handshake_s: float = 10.0
) -> AsyncIterator[Listening]:
    """A listener, over TLS where there is a folder for its certificate."""
    listening = Listening(head_timeout_s=head_timeout_s, idle_s=idle_s)
    sock = socket.create_server(("127.0.0.1", 0))
    listening.address = sock.getsockname()[:2]
    server: asyncio.Server | SecureServer
    if folder is None:
        server = await asyncio.get_running_loop().create_server(listening, sock=sock)
    else:
        issued = PKI.issue(NAME, days=(-1, 9))
        write_pair(folder, issued.chain_pem, key_pem(issued.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "node.pem", folder / "node.key")
        listening.trusted = ssl.create_default_context(cadata=cert_pem(PKI.root).decode())
        server = SecureServer(
            sock, listening, shares=listening.shares, context=context, handshake_s=handshake_s, backlog=16
        )
    try:
        yield listening
    finally:
        server.close()
        await listening.server.shutdown(1.0)
        await server.wait_closed()


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, in whatever way."""
    try:
        async with asyncio.timeout(10):
            await reader.read(-1)
    except ConnectionError:
        pass
    return True


@pytest.fixture(params=["plain", "tls"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "plain" else tmp_path


@pytest.mark.parametrize("sent", [b"G", b"\r\n", b"\r", GET + b"\r\n", GET + b"GET / HTTP/1.1\r\nA: "])
async def test_the_head_deadline_runs_until_there_is_a_head(folder: Path | None, sent: bytes) -> None:
    async with listening(folder, head_timeout_s=0.05) as scene:
        reader, writer = await scene.connect()
        writer.write(sent)
        assert await ends(reader)
        writer.close()


async def test_the_head_deadline_is_not_put_off_by_more_of_the_head(folder: Path | None) -> None:
    async with listening(folder, head_timeout_s=0.1) as scene:
        reader, writer = await scene.connect()
        ended = asyncio.create_task(ends(reader))
        while not ended.done():
            writer.write(b"\r\n")
            await asyncio.wait((ended,), timeout=0.02)
        assert await ended
        writer.close()


async def test_a_connection_that_never_says_anything_is_idle(folder: Path | None) -> None:
    async with listening(folder, idle_s=0.05) as scene:
        reader, writer = await scene.connect()
        assert await ends(reader)
        writer.close()


async def test_empty_lines_without_end_are_refused(folder: Path | None) -> None:
    async with listening(folder) as scene:
        reader, writer = await scene.connect()
        writer.write(b"\r\n" * (1 << 15))
        assert await ends(reader)
        writer.close()


async def test_a_few_empty_lines_before_a_request_are_ignored(folder: Path | None) -> None:
    async with listening(folder) as scene:
        reader, writer = await scene.connect()
        for _ in range(2):
            writer.write(b"\r\n\r\n\r\n" + GET)
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_the_oldest_idle_connection_of_a_client_makes_room(folder: Path | None) -> None:
    async with listening(folder) as scene:
        opened = [await scene.connect() for _ in range(3)]
        assert await ends(opened[0][0])
        opened[2][1].write(GET)
        assert (await opened[2][0].readline()).startswith(b"HTTP/1.1 200")
        assert scene.limits == ["idle"]
        assert len(scene.shares) == 2
        for _, writer in opened:
            writer.close()


async def test_a_socket_counts_during_its_handshake_and_is_given_back_when_it_fails(tmp_path: Path) -> None:
    async with listening(tmp_path, handshake_s=0.5) as scene:
        silent = [await asyncio.open_connection(*scene.address) for _ in range(2)]

        async def counted(count: int) -> bool:
            return len(scene.shares) == count

        await eventually(lambda: counted(2))
        reader, writer = await scene.connect()
        assert scene.limits == ["idle"]
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for other, _ in silent:
            assert await ends(other), "one made room, the other's handshake had a deadline"
        writer.close()
        await eventually(lambda: counted(0))
        for _, other_writer in silent:
            other_writer.close()


@asynccontextmanager
async def admin_listener() -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    limits: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=(await request.read()).decode())

    server = web.Server(answer)
    connections = AdminConnections(server, on_limit=lambda limit, _address: limits.append(limit))
    sock = socket.create_server(("127.0.0.1", 0))
    accepting = await asyncio.get_running_loop().create_server(connections, sock=sock)
    try:
        yield sock.getsockname()[:2], limits
    finally:
        accepting.close()
        await server.shutdown(1.0)
        await accepting.wait_closed()


async def test_an_administrator_gets_a_connection_whoever_holds_all_of_them() -> None:
    async with admin_listener() as (address, limits):
        held = []
        for number in range(admin_connections.MOST + 1):
            source = (f"127.0.0.{2 + number % 9}", 0)
            held.append(await asyncio.open_connection(*address, local_addr=source))
            held[-1][1].write(b"G")
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert set(limits) == {"idle"}
        for _, other in (*held, (reader, writer)):
            other.close()


@pytest.mark.parametrize("sent", [b"\r\n" * (1 << 15), b"GET / HTTP/1.1\r\nA: " + b"a\r\nA: " * (1 << 14)])
async def test_the_admin_listener_ends_what_makes_no_request(sent: bytes) -> None:
    async with admin_listener() as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        assert await ends(reader)
        writer.close()


async def test_the_admin_listener_has_a_deadline_for_a_head() -> None:
    with patch.object(admin_connections, "_HEAD_S", 0.05):
        async with admin_listener() as (address, _):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\r\n")
            assert await ends(reader)
            writer.close()


async def test_a_body_of_an_admin_request_reaches_it_byte_for_byte() -> None:
    async with admin_listener() as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        await asyncio.sleep(0)
        writer.write(b"\r\n\r\na\r\n")
        writer.write(b"b")
        assert (await reader.readuntil(b"\r\n\r\n\r\n\r\na\r\nb")).startswith(b"HTTP/1.1 200")
        writer.close()
