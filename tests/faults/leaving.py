"""Clients that leave, come in hundreds or hardly read: what the node still uses when they are gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.faults.figures import Figure, Size, all_of, at_most, none_of
from tests.faults.load import GONE, WATCHED, Reading, Tally, rss_bytes, settled_reading, steady_reading
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, PIECE, Ground, GroundOptions, running_ground
from tests.support.node import Node

MIB = 1 << 20
BODY = blob(77, 8 * PIECE + 4321)
IDLE = "[upstream]\nidle_s = 1\n"
"""Idle connections to the origin are kept for 30 s by default, which is no leak either."""
COLD_CONFIG = f'{IDLE}[store]\npiece_size = "256KiB"\n'


@asynccontextmanager
async def watched(directory: Path, *, config: str) -> AsyncIterator[Ground]:
    """A watched node that has answered once, so that what it makes on first use is made."""
    options = GroundOptions(config=config, module=WATCHED)
    async with running_ground(directory, options) as ground:
        path = ground.add(BODY)
        for _ in range(2):
            assert (await ground.get(path)).body == BODY
        yield ground


def back_again(fault: str, start: Reading, end: Reading) -> list[Figure]:
    """Descriptors, tasks and fills are what they were."""
    return [
        at_most(fault, "descriptors beyond the start", abs(end.descriptors - start.descriptors), 2),
        at_most(fault, "tasks beyond the start", abs(end.tasks - start.tasks), 2),
        at_most(fault, "fills beyond the start", abs(end.fills - start.fills), 2),
    ]


async def one_cold_object(directory: Path, size: Size) -> list[Figure]:
    """Hundreds of clients of one cold object, of which half leave at some byte."""
    clients, rng, tally, left = size.choose(200, 500), random.Random(7), Tally(), 0
    async with watched(directory, config=COLD_CONFIG) as ground:
        start = await steady_reading(ground.node)
        body = blob(78, 4 * MIB)
        path = ground.add(body)
        gate = ground.origin.gate(path, at=MIB)

        async def one(stays: bool) -> None:
            nonlocal left
            async with RawClient(*ground.node.content) as client:
                response = await client.start("GET", path, host=HOST)
                if stays:
                    tally.judge(await client.finish(response), (body,), 200)
                    return
                got = await client.read_body(response, rng.randrange(1, 2 * MIB))
                tally.wrong += not body.startswith(got)
                left += 1
                client.abort()

        running = [asyncio.create_task(one(number % 2 == 0)) for number in range(clients)]
        await gate.reached()
        gate.open()
        await asyncio.gather(*running)
        await ground.origin.wait_done(path)
        end = await settled_reading(ground.node, start)
        fetched = ground.origin.body_bytes(path)
    fault = f"{clients} clients of a cold object, half leave"
    return [
        all_of(fault, "of those who stay served right", tally.right, clients - left),
        at_most(fault, "bytes fetched per byte", fetched / len(body), 1.0),
        *back_again(fault, start, end),
    ]


async def _leave(node: Node, path: str, rng: random.Random, tally: Tally) -> None:
    try:
        async with RawClient(*node.content, receive_buffer=16_384) as client:
            response = await client.start("GET", path, host=HOST)
            got = await client.read_body(response, rng.randrange(1, 100_000))
            if not BODY.startswith(got):
                tally.wrong += 1
            tally.cut += 1
            client.abort() if rng.random() < 0.5 else None
    except GONE:
        tally.refused += 1


async def disconnects(directory: Path, size: Size) -> list[Figure]:
    """Clients that end in the middle of a body, by FIN or RST, from a warm and from a cold object."""
    count, rng, tally = size.choose(500, 10_000), random.Random(8), Tally()
    async with watched(directory, config=IDLE) as ground:
        warm = ground.add(BODY)
        await ground.get(warm)
        for _ in range(50):
            await _leave(ground.node, warm, rng, Tally())
        start = await steady_reading(ground.node)
        for batch in range(count // 50):
            cold = ground.add(BODY)
            await asyncio.gather(
                *(_leave(ground.node, cold if number % 5 == 0 else warm, rng, tally) for number in range(50))
            )
            if batch % 10 == 9:
                await ground.origin.wait_done(cold)
        end = await settled_reading(ground.node, start)
    fault = f"{count} disconnects in the body"
    return [
        none_of(fault, "wrong bytes", tally.wrong, among=f"{tally.requests} requests"),
        none_of(fault, "refused", tally.refused, among=f"{tally.requests} requests"),
        *back_again(fault, start, end),
        at_most(fault, "RSS more by", (end.rss_bytes - start.rss_bytes) / MIB, 64, unit=" MiB"),
    ]


async def slow_readers(directory: Path, size: Size) -> list[Figure]:
    """Clients that take a few bytes and then wait; RSS is looked at while all of them hang there."""
    count, tally = size.choose(200, 2000), Tally()
    async with watched(directory, config=f"{IDLE}[server]\nmin_send_rate_bps = 0\n") as ground:
        path = ground.add(BODY)
        await ground.get(path)
        start = await steady_reading(ground.node)
        async with AsyncExitStack() as stack:
            for _ in range(count):
                client = await stack.enter_async_context(RawClient(*ground.node.content, receive_buffer=4096))
                response = await client.start("GET", path, host=HOST)
                tally.wrong += not BODY.startswith(await client.read_body(response, 100))
                tally.right += 1
            during = rss_bytes(ground.node.process.pid)
            answer = await ground.get(path)
            served = int(answer.body == BODY)
        end = await settled_reading(ground.node, start)
    fault = f"{count} slow readers"
    return [
        none_of(fault, "wrong bytes", tally.wrong, among=f"{tally.requests} requests"),
        all_of(fault, "of others served meanwhile", served, 1),
        *back_again(fault, start, end),
        at_most(fault, "RSS more by", (during - start.rss_bytes) / MIB, 64, unit=" MiB"),
    ]
