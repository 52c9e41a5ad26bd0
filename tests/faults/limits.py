"""Clocks that jump, and descriptors that run out."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.figures import Figure, Size, all_of, at_most, in_time, none_of
from tests.faults.load import GONE, WATCHED, Ground, GroundOptions, Tally, running_ground
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import DO_HOST, HOST, PIECE

DAY_S = 86_400
BODY = blob(95, 3 * PIECE + 5)


async def clock_jumps(directory: Path, size: Size) -> list[Figure]:
    """The wall clock goes 30 days back and 400 days ahead while the node runs and a fill is under way."""
    figures: list[Figure] = []
    directory.mkdir(exist_ok=True)
    offset = directory / "offset"
    offset.write_text("0")
    options = GroundOptions(config="[server]\nidle_timeout_s = 1\n", module=WATCHED, env={"FAULTS_CLOCK": str(offset)})
    async with running_ground(directory, options) as ground:
        own = [ground.add(BODY) for _ in range(size.choose(5, 50))]
        shipped = [ground.add(BODY, headers=()) for _ in own]
        await _ask_all(ground, own, shipped, Tally())
        for days in (-30, 400, 0):
            figures += await _after_jump(ground, offset, days, own, shipped, size)
    return figures


async def _ask_all(ground: Ground, own: list[str], shipped: list[str], tally: Tally) -> list[float]:
    taken_s = []
    for path, host in [(path, HOST) for path in own] + [(path, DO_HOST) for path in shipped]:
        began_s = time.monotonic()
        answer = await (ground.get(path) if host == HOST else ground.get_as_client(path, host=host))
        tally.judge(answer, (BODY,), 200)
        taken_s.append(time.monotonic() - began_s)
    return taken_s


async def _after_jump(
    ground: Ground, offset: Path, days: int, own: list[str], shipped: list[str], size: Size
) -> list[Figure]:
    node, tally, fault = ground.node, Tally(), f"clock off by {days} d"
    cold = ground.add(BODY)
    gate = ground.origin.gate(cold, at=PIECE + 100)
    async with RawClient(*node.content) as filling, RawClient(*node.content) as idle:
        running = await filling.start("GET", cold, host=HOST)
        await gate.reached()
        await idle.request("GET", own[0], host=HOST)
        sent, mark = ground.origin.bytes_sent, len(node.log)
        offset.write_text(str(days * DAY_S))
        node.process.send_signal(signal.SIGUSR2)
        await node.wait_log(lambda line: line.get("event") == "clock_moved", since=mark)
        began_s = time.monotonic()
        closed = await idle.at_end()
        idle_s = time.monotonic() - began_s
        taken_s = await _ask_all(ground, own, shipped, tally)
        fetched = ground.origin.bytes_sent - sent
        gate.open()
        tally.judge(await filling.finish(running), (BODY,), 200)
    return [
        all_of(fault, "of requests served right", tally.right, tally.requests),
        none_of(fault, "bytes fetched again", fetched, among=f"{len(own) + len(shipped)} objects"),
        in_time(fault, "longest answer", taken_s, 2.0, size),
        in_time(fault, "idle connection closed", [idle_s if closed else 1000.0], 3.0, size),
    ]


async def descriptors(directory: Path, size: Size) -> list[Figure]:
    """More clients than descriptors, with the cap that the node sets itself and with one set too high."""
    figures = []
    for name, cap in (("own cap", 0), ("cap above the limit", 60_000)):
        figures += await _run_out(directory / str(cap), f"fd limit reached, {name}", cap, size)
    return figures


async def _run_out(directory: Path, fault: str, cap: int, size: Size) -> list[Figure]:
    seconds, tally, silent = size.choose(3, 15), Tally(), 0
    server = f"[server]\nmax_connections = {cap}\nconnections_per_client = 60_000\n"
    config = f"[store]\nopen_objects = 16\n{server}[log]\naccess = false\n"
    options = GroundOptions(config=config, module=WATCHED, env={"FAULTS_NOFILE": "320"})
    async with running_ground(directory, options) as ground:
        node = ground.node
        path = ground.add(BODY)
        assert (await ground.get(path)).body == BODY
        mark = len(node.log)
        async with AsyncExitStack() as stack:
            clients = []
            for _ in range(800):
                try:
                    clients.append(await stack.enter_async_context(RawClient(*node.content, timeout_s=1)))
                except GONE:
                    tally.refused += 1
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                try:
                    async with RawClient(*node.content, timeout_s=1) as client:
                        tally.judge(await client.request("GET", path, host=HOST), (BODY,), 200)
                except TimeoutError:
                    silent += 1
                except GONE:
                    tally.cut += 1
                await asyncio.sleep(0.05)
            lines = len(node.log) - mark
        began_s = time.monotonic()
        back_s = 1000.0
        while time.monotonic() - began_s < 30:
            try:
                if (await ground.get(path)).body == BODY:
                    back_s = time.monotonic() - began_s
                    break
            except GONE:
                await asyncio.sleep(0.05)
        node.check_log()
    return [
        none_of(fault, "wrong answers", tally.wrong, among=f"{tally.requests} requests"),
        none_of(fault, "clients left waiting", silent, among=f"{tally.requests + silent} clients"),
        at_most(fault, "log lines", lines / seconds, 1.0, unit="/s"),
        in_time(fault, "service back", [back_s], 2.0, size),
    ]
