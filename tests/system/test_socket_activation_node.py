"""Sockets that were opened before the node began: served by name, kept over a restart, refused when wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import fetch
from tests.support.content import Content
from tests.support.ground import FRESH, HOST
from tests.support.node import Node, NodeFailed, running_node
from tests.support.origin import Origin

BODY = b"activated" * 1000
STARTER = """\
import os, sys
count = int(sys.argv[1])
spare = [os.dup(int(text)) for text in sys.argv[3 : 3 + count]]
for place, fd in enumerate(spare, start=3):
    os.dup2(fd, place)
    os.set_inheritable(place, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3 + count], sys.argv[3 + count :])
"""
"""Does what a service manager does between fork and exec."""


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


def opened(sockets: list[socket.socket], address: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets.append(socket.create_server((address, 0), family=family))
    return sockets[-1]


@asynccontextmanager
async def activated(
    tmp_path: Path,
    passed: Sequence[tuple[str, socket.socket]],
    *,
    config: str = "",
    origin: Origin | None = None,
) -> AsyncIterator[Node]:
    fds = [sock.fileno() for _name, sock in passed]
    names = ":".join(name for name, _sock in passed)
    connect_to = {HOST: origin.address} if origin is not None else {}
    async with running_node(
        tmp_path,
        config=config,
        allow=[HOST],
        connect_to=connect_to,
        launcher=[sys.executable, "-c", STARTER, str(len(fds)), names, *map(str, fds)],
        pass_fds=fds,
    ) as node:
        yield node


def url_of(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


async def test_every_kind_is_served_on_its_socket_and_on_nothing_else(
    tmp_path: Path, sockets: list[socket.socket]
) -> None:
    content, admin = opened(sockets), opened(sockets)
    async with Origin() as origin:
        origin.add("/file", Content(BODY, headers=FRESH))
        passed = [("admin", admin), ("content", content), ("content", opened(sockets, "::1"))]
        async with activated(tmp_path, passed, origin=origin) as node:
            listening = node.log[0]
            assert (node.content, node.admin) == (url_of(content), url_of(admin))
            assert listening["content"] == [f"127.0.0.1:{content.getsockname()[1]}", f"[::1]:{url_of(sockets[2])[1]}"]
            for sock in (content, sockets[2]):
                assert (await fetch(url_of(sock), "/file", host=HOST)).body == BODY
            assert (await fetch(url_of(admin), "/readyz")).status == 200


async def test_tls_is_spoken_on_the_socket_of_that_name(tmp_path: Path, sockets: list[socket.socket]) -> None:
    authority = Authority(tmp_path)
    authority.server_context(name="localhost")
    (leaf,) = tmp_path.glob("leaf-*.pem")
    leaf.chmod(0o600)
    config = f'[tls]\ncertificate = "{leaf}"\nkey = "{leaf}"\n'
    tls = opened(sockets)
    async with activated(tmp_path / "node", [("tls", tls)], config=config):
        client = ssl.create_default_context(cafile=authority.ca_file)
        reader, writer = await asyncio.open_connection(*url_of(tls), ssl=client, server_hostname="localhost")
        writer.write(b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        writer.close()
        await writer.wait_closed()


async def test_clients_that_come_while_the_node_restarts_are_served(
    tmp_path: Path, sockets: list[socket.socket]
) -> None:
    content = opened(sockets)
    async with Origin() as origin:
        origin.add("/file", Content(BODY, headers=FRESH))
        async with activated(tmp_path, [("content", content)], origin=origin) as node:
            assert (await node.get("/file", host=HOST)).body == BODY
            assert await node.stop() == 0
            between = asyncio.create_task(fetch(url_of(content), "/file", host=HOST))
            await asyncio.sleep(0)
            await node.start()
            assert (await between).body == BODY


BAD = {
    "an unknown name": (("http", "127.0.0.1"), "", "FileDescriptorName= may be content, tls, admin"),
    "an admin socket for everyone": (("admin", "0.0.0.0"), "", "admin.token"),
    "tls without a certificate": (("tls", "127.0.0.1"), "", "needs both certificate and key"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_socket_that_cannot_be_served_ends_the_start_with_one_line(
    tmp_path: Path, sockets: list[socket.socket], name: str
) -> None:
    (kind, address), config, message = BAD[name]
    with pytest.raises(NodeFailed, match=message):
        async with activated(tmp_path, [(kind, opened(sockets, address))], config=config):
            pass
