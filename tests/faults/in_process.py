"""A whole node inside the process of the harness, so that the disk below it can be made to fail.

Owns building, starting and stopping it. What it logs as its own fault ends the harness.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cacheserver.logs.writer import LineWriter
from cacheserver.node.lifetime import Node
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume
from tests.support.client import Lines, RawClient, Response
from tests.support.flow import eventually
from tests.support.ground import HOST
from tests.support.origin import Origin

_FAULTS = ("failed", "loop_error", "admin_failed", "task_failed")


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((record.getMessage(), getattr(record, "facts", {})))


class InProcess:
    """One running node."""

    def __init__(self, node: Node, listener: _Listener) -> None:
        self._node = node
        self._listener = listener
        self.unseen: list[str] = []
        """What the event loop was told that nobody had caught."""

    @property
    def store(self) -> Store:
        """Its store."""
        return self._node._parts.store

    @property
    def volumes(self) -> Sequence[Volume]:
        """Its volumes."""
        return self.store.volumes

    @property
    def address(self) -> tuple[str, int]:
        """Of the content listener."""
        host, port = self._node._listeners._servers[0].sockets[0].getsockname()[:2]
        return host, port

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What it has logged."""
        return self._listener.events

    @property
    def faults(self) -> list[str]:
        """What it has logged as faults of its own."""
        return [f"{name} {facts}" for name, facts in self.events if name in _FAULTS] + self.unseen

    async def get(self, path: str, headers: Lines = (), *, timeout_s: float = 20.0) -> Response:
        """One request in Host form; TimeoutError after so long without a byte."""
        async with RawClient(*self.address, timeout_s=timeout_s) as client:
            return await client.request("GET", path, headers, host=HOST)

    async def recovered(self) -> None:
        """Until the walk over every volume is done."""

        async def walked() -> bool:
            return all(volume.loaded.is_set() and volume.reconciled for volume in self._node._volumes)

        await eventually(walked)


def settings_for(directory: Path, origin: Origin, config: str, volumes: Sequence[Path], max_size: str) -> Settings:
    """Settings of a node on these volumes whose one host leads to the origin."""
    directory.mkdir(parents=True, exist_ok=True)
    tables = "".join(f'[[store.volumes]]\npath = "{path}"\nmax_size = "{max_size}"\n' for path in volumes)
    (directory / "cacheserver.toml").write_text(f"{config}\n[log]\naccess = false\n{tables}")
    flags = Flags(
        listen=("127.0.0.1:0",),
        admin_listen="127.0.0.1:0",
        allow=(HOST,),
        connect_to=(f"{HOST}={origin.address}",),
    )
    return load_settings(str(directory / "cacheserver.toml"), flags)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[InProcess]:
    """A node that is stopped at the end, whatever came."""
    logger, listener = logging.getLogger("cacheserver"), _Listener()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(listener)
    loop = asyncio.get_running_loop()
    stderr = LineWriter()
    try:
        node = Node(settings, lambda: settings, stderr=stderr)
        running = InProcess(node, listener)
        loop.set_exception_handler(lambda _loop, context: running.unseen.append(str(context)))
        await node.start()
        try:
            yield running
        finally:
            await node.stop()
    finally:
        stderr.close()
        loop.set_exception_handler(None)
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate
