"""An operator with a shell and root: runs commands, asks the admin listener, spoils bytes under a node.

Owns no node and no origin. Must not decide what is right: that is what the tests do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.client import RawClient
from tests.support.flow import PATIENCE_S
from tests.support.ground import Ground


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


async def run(*arguments: object) -> Ran:
    """The command line in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cacheserver", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def admin(ground: Ground) -> str:
    """The admin listener of a ground's node as ``--admin`` takes it."""
    return f"{ground.node.admin[0]}:{ground.node.admin[1]}"


async def post(ground: Ground, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """One act over the admin listener."""
    data = json.dumps(body)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    async with RawClient(*ground.node.admin) as client:
        await client.send(client.head("POST", path, headers) + data.encode())
        response = await client.receive()
    answer: dict[str, Any] = json.loads(response.body)
    return response.status, answer


def file_of(ground: Ground, body: bytes) -> Path:
    """The object file that holds a body."""
    for file in (ground.node.cache_dir / "objects").rglob("?" * 32):
        with file.open("rb") as stream:
            if stream.read(64) == body[:64]:
                return file
    raise AssertionError("not on disk")


def flip(file: Path, at: int, bit: int) -> None:
    """Turn one bit of a file over."""
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1 << bit]))
