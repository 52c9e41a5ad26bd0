"""A node at full rate for a long time, with a fault every few seconds."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.figures import Figure, Size, all_of, at_most, none_of
from tests.faults.leaving import back_again
from tests.faults.load import (
    GONE,
    WATCHED,
    Ground,
    GroundOptions,
    Objects,
    Tally,
    ask,
    mixed_client,
    rss_bytes,
    running_ground,
    settled_reading,
    steady_reading,
)
from tests.support.client import RawClient
from tests.support.content import Fault
from tests.support.ground import HOST

PIECE = 65_536
MIB = 1 << 20
CLIENTS = 8
OBJECTS = 40
CONFIG = """
[store]
piece_size = "64KiB"
extent = "256KiB"
[upstream]
idle_s = 1
stall_timeout_s = 1
head_timeout_s = 2
[log]
access = false
"""


@dataclass(slots=True)
class Soak:
    """One node, its load and what is done to it."""

    ground: Ground
    objects: Objects
    rng: random.Random
    tally: Tally = field(default_factory=Tally)
    samples: list[tuple[int, int]] = field(default_factory=list)
    """Requests so far, and resident bytes of the node."""

    async def bad_answers(self) -> None:
        """New objects whose first answers break in one way or another."""
        for fault in (
            Fault(reset_after=100_000),
            Fault(truncate_after=70_000),
            Fault(stall_after=PIECE),
            Fault(range_shift=1),
            Fault.refusing(503),
        ):
            path = self.objects.add()
            self.ground.origin.fault(path, fault, fault)
        self._keep_number()

    async def origin_down(self) -> None:
        """Nobody listens for half a second."""
        await self.ground.origin.go_down()
        await asyncio.sleep(0.5)
        await self.ground.origin.come_up()

    async def reload(self) -> None:
        """SIGHUP."""
        self.ground.node.reload()

    async def leave(self) -> None:
        """Clients that begin and go."""
        for path in list(self.objects.bodies)[-10:]:
            try:
                async with RawClient(*self.ground.node.content) as client:
                    await client.start("GET", path, host=HOST)
                    client.abort()
            except GONE:
                self.tally.cut += 1

    async def new_objects(self) -> None:
        """Enough that others are evicted."""
        for _ in range(10):
            self.objects.add()
        self._keep_number()

    def _keep_number(self) -> None:
        for path in list(self.objects.bodies)[: len(self.objects.bodies) - OBJECTS]:
            del self.objects.bodies[path]

    def sample(self) -> None:
        """Note how much memory the node has now."""
        self.samples.append((self.tally.requests, rss_bytes(self.ground.node.process.pid)))


def slope(samples: list[tuple[int, int]]) -> float:
    """MiB per 100,000 requests over the second half of the samples, by least squares."""
    half = samples[len(samples) // 2 :]
    xs, ys = [requests / 100_000 for requests, _ in half], [rss / MIB for _, rss in half]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


async def run(directory: Path, size: Size) -> list[Figure]:
    """30 minutes with a fault every 5 s in full size, 20 s with one every 2 s reduced."""
    seconds, every_s = size.choose(20, 1800), size.choose(2, 5)
    rng = random.Random(14)
    options = GroundOptions(config=CONFIG, module=WATCHED, max_size="24MiB")
    async with running_ground(directory, options) as ground:
        soak = Soak(ground, Objects(ground, rng, most_bytes=12 * PIECE), rng)
        for _ in range(OBJECTS):
            soak.objects.add()
        await _ask_all(soak)
        start = await steady_reading(ground.node)
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(
                mixed_client(
                    ground.node, lambda: soak.objects.bodies, random.Random(n), soak.tally, stop, piece_bytes=PIECE
                )
            )
            for n in range(CLIENTS)
        ]
        faults = await _do_faults(soak, seconds, every_s)
        stop.set()
        await asyncio.gather(*clients)
        after = await _ask_all(soak)
        end = await settled_reading(ground.node, start, within_s=10 * size.patience)
        grown = (end.rss_bytes - soak.samples[0][1]) / MIB
    fault = f"soak {seconds} s, {faults} faults"
    bar = at_most(fault, "RSS per 100,000 requests", slope(soak.samples), 1.0, unit=" MiB")
    if size is Size.REDUCED:
        bar = at_most(fault, "RSS more by", grown, 64, unit=" MiB")
    print("  ", soak.tally.right, soak.tally.refused, soak.tally.cut, soak.tally.examples[:5])
    return [
        none_of(fault, "wrong answers", soak.tally.wrong, among=f"{soak.tally.requests} requests"),
        all_of(fault, "right afterwards", after.right, len(soak.objects.bodies)),
        bar,
        *back_again(fault, start, end),
    ]


async def _do_faults(soak: Soak, seconds: int, every_s: int) -> int:
    kinds: tuple[Callable[[], Awaitable[None]], ...] = (
        soak.bad_answers,
        soak.reload,
        soak.origin_down,
        soak.leave,
        soak.new_objects,
    )
    until_s, done = time.monotonic() + seconds, 0
    for kind in itertools.cycle(kinds):
        if time.monotonic() >= until_s:
            return done
        await asyncio.sleep(every_s)  # the pace is what is asked for
        await kind()
        soak.sample()
        done += 1
    return done


async def _ask_all(soak: Soak) -> Tally:
    """Every object once more, healed."""
    tally = Tally()
    for path, body in soak.objects.bodies.items():
        soak.ground.origin.heal(path)
        async with RawClient(*soak.ground.node.content) as client:
            await ask(client, path, body, None, tally)
    return tally
