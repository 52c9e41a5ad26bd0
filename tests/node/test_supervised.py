"""A node under a supervisor: its messages at start, reload, end and in between, over a real datagram socket."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.client import fetch
from tests.support.flow import PATIENCE_S
from tests.support.node import Node, NodeFailed, running_node

Message = dict[str, str]


class Manager:
    """The service manager's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def receive(self) -> Message:
        """The next message; TimeoutError when none comes."""
        async with asyncio.timeout(PATIENCE_S):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        return dict(line.split("=", 1) for line in data.decode().split("\n"))

    async def receive_with(self, name: str) -> Message:
        """The next message that holds ``name``."""
        while True:
            message = await self.receive()
            if name in message:
                return message

    def silent(self) -> bool:
        """Whether nothing is waiting to be read."""
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@asynccontextmanager
async def supervised(
    tmp_path: Path, manager: Manager, *, config: str = "", watchdog_usec: int = 0
) -> AsyncIterator[Node]:
    env = {"NOTIFY_SOCKET": str(manager.path)}
    if watchdog_usec:
        env["WATCHDOG_USEC"] = str(watchdog_usec)
    async with running_node(tmp_path, config=config, env=env) as node:
        yield node


async def test_ready_comes_when_the_node_listens_and_says_where(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager) as node:
        message = await manager.receive()
        assert message["READY"] == "1"
        content, admin = (f"{host}:{port}" for host, port in (node.content, node.admin))
        assert message["STATUS"] == f"listening: content {content}; admin {admin}"
        assert (await fetch(node.admin, "/readyz")).status == 200
        assert manager.silent()


async def test_a_node_that_cannot_listen_is_never_ready(tmp_path: Path, manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = f'[server]\nlisten_tls = ["127.0.0.1:{taken.getsockname()[1]}"]\n'
        with pytest.raises(NodeFailed):
            async with supervised(tmp_path, manager, config=config):
                pass
    assert manager.silent()


async def test_a_reload_is_announced_and_its_end_too(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager) as node:
        await manager.receive_with("READY")
        before = time.monotonic_ns() // 1000
        node.reload()
        begun, ended = await manager.receive(), await manager.receive()
        assert (begun["RELOADING"], ended["READY"], ended["STATUS"]) == ("1", "1", "reloaded")
        assert before <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


async def test_a_refused_reload_ends_too_and_says_why(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager) as node:
        await manager.receive_with("READY")
        node.config_file.write_text("[fill]\nparallel = 0\n")
        node.reload()
        assert "RELOADING" in await manager.receive()
        ended = await manager.receive()
        assert ended["READY"] == "1"
        assert ended["STATUS"].startswith("reload refused: ")
        assert "fill.parallel" in ended["STATUS"]


async def test_the_end_is_announced_with_the_time_it_may_take(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager, config="[server]\ndrain_s = 2\n") as node:
        await manager.receive_with("READY")
        assert await node.stop() == 0
        message = await manager.receive()
        assert (message["STOPPING"], message["EXTEND_TIMEOUT_USEC"]) == ("1", "17000000")
        assert manager.silent()


async def test_the_loop_pings_the_watchdog_at_half_its_interval(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager, watchdog_usec=400_000) as node:
        await manager.receive_with("WATCHDOG")
        begun_s = time.monotonic()
        for _ in range(4):
            assert (await manager.receive_with("WATCHDOG"))["WATCHDOG"] == "1"
        assert time.monotonic() - begun_s > 0.5
        node.process.send_signal(signal.SIGSTOP)
        while not manager.silent():  # noqa: ASYNC110 - until what was sent before is read
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await manager.receive()
        node.process.send_signal(signal.SIGCONT)
        await manager.receive_with("WATCHDOG")


async def test_without_a_watchdog_the_node_does_not_ping(tmp_path: Path, manager: Manager) -> None:
    async with supervised(tmp_path, manager) as node:
        assert "READY" in await manager.receive()
        node.reload()
        assert "RELOADING" in await manager.receive()
