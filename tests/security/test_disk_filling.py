"""Random queries and paths fill neither the disk nor the memory."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import DO_HOST, HOST, Ground, GroundOptions, running_ground

_CONNECTIONS = 8
_MOST_GROWTH_BYTES = 4 << 20
_BODY = blob(11, 4096)


def random_query(draw: random.Random) -> str:
    """The token pairs of a signed URL with drawn values, in a drawn order, some of them twice or absent."""
    names = draw.choices(("P1", "P2", "P3", "P4", "%50%31"), k=draw.randrange(1, 6))
    return "&".join(f"{name}={draw.getrandbits(64):x}" for name in names)


async def ask(ground: Ground, targets: list[tuple[str, str]]) -> dict[int, int]:
    """Ask for every (target, host) over a few connections: answers by status."""
    statuses: dict[int, int] = {}
    left = iter(targets)

    async def work() -> None:
        async with RawClient(*ground.node.content) as client:
            for target, host in left:
                answer = await client.request("GET", target, host=host)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))
    return statuses


def files(ground: Ground) -> int:
    """Object files in the cache."""
    return sum(file.is_file() for file in (ground.node.cache_dir / "objects").rglob("*"))


def resident_bytes(ground: Ground) -> int:
    """Memory of the node's process."""
    status = Path(f"/proc/{ground.node.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


async def one_object(ground: Ground, requests: int, draw: random.Random) -> list[str]:
    """Random queries on one signed object."""
    path = ground.add(_BODY, headers=())
    before = files(ground)
    statuses = await ask(ground, [(f"{path}?{random_query(draw)}", DO_HOST) for _ in range(requests)])
    faults = [] if statuses == {200: requests} else [f"queries were answered {statuses}"]
    if files(ground) - before != 1:
        faults.append(f"{files(ground) - before} objects for one content")
    if len(ground.origin.asked(path)) > 2:
        faults.append(f"the origin was asked {len(ground.origin.asked(path))} times")
    return faults


async def missing(ground: Ground, requests: int, draw: random.Random) -> tuple[int, list[str]]:
    """Random paths that the origin does not have: growth of memory in bytes, faults."""

    def targets(count: int) -> list[tuple[str, str]]:
        return [(f"/missing/{draw.getrandbits(128):x}", draw.choice((HOST, DO_HOST))) for _ in range(count)]

    # The pools and caches of the libraries, and the table of negative answers, fill up first; they are bounded.
    await ask(ground, targets(max(requests // 2, 500)))
    before, memory = files(ground), resident_bytes(ground)
    statuses = await ask(ground, targets(requests))
    growth = resident_bytes(ground) - memory
    faults = [] if statuses == {404: requests} else [f"missing paths were answered {statuses}"]
    if files(ground) != before:
        faults.append(f"{files(ground) - before} files for answers of 404")
    if growth > _MOST_GROWTH_BYTES:
        faults.append(f"memory grew by {growth} bytes")
    return growth, faults


async def scan(ground: Ground, requests: int) -> list[str]:
    """Queries that the key must keep, over a cache far too small for them: it stays within its size."""
    path = ground.add(blob(12, 40_000))
    statuses = await ask(ground, [(f"{path}?{number}", HOST) for number in range(requests)])
    faults = [] if set(statuses) == {200} else [f"the scan was answered {statuses}"]
    found = [file.stat() for file in (ground.node.cache_dir / "objects").rglob("*") if file.is_file()]
    # Body and footer are charged by the byte; the file system rounds each of them up to a block.
    stored = sum(status.st_blocks * 512 - 2 * 4096 for status in found)
    if stored > 16 << 20 or len(found) >= requests:
        faults.append(f"{len(found)} files, {stored} bytes stored in 16 MiB")
    return faults


async def measure(scene: Scene) -> Figure:
    """One ground with room, one that is too small."""
    draw = random.Random(4)
    requests = scene.size(10_000, 1200)
    async with running_ground(scene.room("node"), GroundOptions()) as ground:
        faults = await one_object(ground, requests, draw)
        growth, found = await missing(ground, requests, draw)
    async with running_ground(scene.room("small"), GroundOptions(max_size="16MiB")) as ground:
        kept = scene.size(3000, 600)
        found += await scan(ground, kept)
    text = (
        f"{requests} queries: 1 object; {requests} missing paths: 0 files, {growth / 2**20:+.1f} MiB; "
        f"{kept} keyed queries: within max_size"
    )
    return Figure(text, faults + found)


ROW = Row("disk filling by random queries and paths", "1 object; 0 files for 404s, <= 4 MiB of memory", measure)


@pytest.mark.timeout(240)
async def test_random_names_fill_neither_disk_nor_memory(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
