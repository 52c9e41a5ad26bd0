"""A file system of 16 MiB under objects of 64 MiB, and one that has no byte left, the catalogue's journal included."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.faults.figures import Figure, Size, all_of, in_time
from tests.faults.load import Ground, Objects, Tally, ask
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.disks import filled_up, tmpfs, why_no_tmpfs
from tests.support.ground import HOST, was_hit
from tests.support.node import running_node
from tests.support.origin import Origin

MIB = 1 << 20
CONFIG = "[fill]\npass_memory_s = 1\n"


async def _ask_for_large(ground: Ground, rounds: int, tally: Tally) -> None:
    body = blob(91, 64 * MIB)
    for _ in range(rounds):
        path = ground.add(body)
        spans = [None, (0, MIB), (40 * MIB + 5, 43 * MIB), None]

        async def one(span: tuple[int, int] | None, path: str = path) -> None:
            async with RawClient(*ground.node.content) as client:
                await ask(client, path, body, span, tally)

        await asyncio.gather(*(one(span) for span in spans))


async def _fill_up(ground: Ground, disk: Path, objects: Objects, rounds: int, tally: Tally) -> float:
    """Ask while there is no room; the seconds from room to the first new hit."""
    filler = filled_up(disk)
    for _ in range(rounds):
        path = objects.add()
        async with RawClient(*ground.node.content) as client:
            for _again in range(2):
                await ask(client, path, objects.bodies[path], None, tally)
    filler.unlink()
    began_s = time.monotonic()
    while time.monotonic() - began_s < 60:
        path = objects.add(10_000)
        async with RawClient(*ground.node.content) as client:
            await ask(client, path, objects.bodies[path], None, tally)
            if was_hit(await ask(client, path, objects.bodies[path], None, tally)):
                break
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


async def run(directory: Path, size: Size) -> list[Figure]:
    """Needs root; without it the rows say so."""
    fault = "ENOSPC on 16 MiB with 64 MiB objects"
    if reason := why_no_tmpfs():
        return [Figure(fault, "100 % of requests served", f"not measured: {reason}", size is Size.REDUCED)]
    rounds, tally = size.choose(1, 10), Tally()
    with tmpfs(directory / "disk", "16m") as disk:
        async with (
            Origin() as origin,
            running_node(
                directory / "node",
                allow=(HOST,),
                connect_to={HOST: origin.address},
                config=CONFIG,
                cache_dir=disk / "cache",
            ) as node,
        ):
            ground = Ground(origin, node)
            objects = Objects(ground, random.Random(4), most_bytes=MIB)
            # Large objects last: what they leave is all the cache's own, and a filler would take no room from it.
            resumed_s = [await _fill_up(ground, disk, objects, 10, tally) for _ in range(rounds)]
            await _ask_for_large(ground, rounds, tally)
    return [
        all_of(fault, "of requests served right", tally.right, tally.requests),
        in_time(fault, "writes resume after room", resumed_s, 5.0, size),
    ]
