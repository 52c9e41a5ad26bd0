"""A real Prometheus on loopback, and promtool; tests skip where Debian's package is not installed.

Owns the process. Queries go through its HTTP API.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PATIENCE_S = 20.0

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="the package prometheus (prometheus, promtool) is not installed",
)


def promtool(*arguments: str, text: bytes | None = None) -> tuple[int, str]:
    """Exit code and output of a run."""
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, timeout=30, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


class Prometheus:
    """The HTTP API of one server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def api(self, path: str, **params: str) -> Any:
        """``data`` of an answer of the API; AssertionError with the server's words when it is no success."""
        async with self._session.get(f"{self._base}/api/v1/{path}", params=params) as response:
            body = await response.json()
        assert body["status"] == "success", (params, body)
        return body["data"]

    async def query(self, expression: str, at_s: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every series of an instant vector."""
        data = await self.api("query", query=expression, time=f"{time.time() if at_s is None else at_s:.3f}")
        return [(row["metric"], float(row["value"][1])) for row in data["result"]]

    async def wait_value(self, expression: str, value: float) -> None:
        """Until the one series of ``expression`` has this value; TimeoutError when it never has."""
        async with asyncio.timeout(PATIENCE_S):
            while [got for _, got in await self.query(expression)] != [value]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            async with self._session.get(f"{self._base}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def running_prometheus(directory: Path, config: str) -> AsyncIterator[Prometheus]:
    """A server with this configuration on a free port; ended by its id."""
    (directory / "prometheus.yml").write_text(config, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(session, f"http://{address}")
            async with asyncio.timeout(PATIENCE_S):
                while not await server.ready():
                    assert process.returncode is None, "prometheus ended at once"
                    await asyncio.sleep(0.05)
            yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
