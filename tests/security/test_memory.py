"""Everything that holds bodies in memory is driven to its bound at once: the node stays within what it states."""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.security.test_disk_filling import resident_bytes
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, HOST, Ground, GroundOptions, running_ground
from tests.support.manifests import phf, phf_path

MIB = 1 << 20
_SPOOL = 8 * MIB
_BODIES = 4 * _SPOOL
_REMEMBERED = 2 * 16 * MIB
"""Refusals and manifests."""
_BODY = blob(31, 6 * MIB)
_NO_STORE = (("Cache-Control", "no-store"),)
_CONFIG = '[fill]\nspool_bytes = "8MiB"\nnegative_s = 60\n'


async def reading_nothing(stack: AsyncExitStack, ground: Ground, source: str, target: str, host: str) -> None:
    """A client at ``source`` that asks and reads nothing."""
    sock = socket.socket()
    stack.callback(sock.close)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ground.node.content)
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, head.encode())


async def held(ground: Ground) -> dict[str, int]:
    """Bytes by use, as the node shows them."""
    text = (await ground.node.ask_admin("/metrics")).body.decode()
    rows = re.findall(r'(?m)^cacheserver_body_memory_bytes\{use="(\w+)"\} (\S+)$', text)
    return {use: int(float(value)) for use, value in rows}


def contents(ground: Ground) -> tuple[str, str]:
    """One whose answers name no length, and one that has to be compared; neither is stored."""
    chunked = ground.new_path()
    ground.origin.add(chunked, Content(_BODY, headers=_NO_STORE))
    ground.origin.fault(chunked, always=Fault(framing="chunked", ignore_range=True))
    compared = f"/filestreamingservice/files/{uuid.uuid4()}"
    ground.origin.add(compared, Content(_BODY, headers=_NO_STORE))
    ground.origin.add(phf_path(compared), Content(phf(_BODY, MIB)))
    return chunked, compared


async def refused(ground: Ground, count: int) -> None:
    """Missing files whose refusals are long."""
    for number in range(count):
        path = f"/missing/{number}"
        ground.origin.add(path, Content(bytes(250_000), status=404))
        await ground.node.get(path, host=DO_HOST)


async def measure(scene: Scene) -> Figure:
    """Slow readers at many addresses, and refusals; then nobody."""
    each, refusals = scene.size(24, 12), scene.size(400, 100)
    faults = []
    options = GroundOptions(config=_CONFIG)
    async with running_ground(scene.room("node"), options) as ground, AsyncExitStack() as stack:
        chunked, compared = contents(ground)
        await ground.node.get(chunked, host=HOST)
        idle = resident_bytes(ground)
        await refused(ground, refusals)
        for number in range(each):
            source = f"127.0.1.{number + 1}"
            await reading_nothing(stack, ground, source, f"{chunked}?{number % 3}", HOST)
            await reading_nothing(stack, ground, source, compared, DO_HOST)

        async def is_full() -> bool:
            now = await held(ground)
            return now["collected"] + now["held_back"] > _BODIES * 3 // 4

        await eventually(is_full)
        now = await held(ground)
        peak = resident_bytes(ground)
        if now["collected"] + now["held_back"] > _BODIES:
            faults.append(f"bodies hold {now}")
        if peak - idle > _BODIES + _REMEMBERED + 64 * MIB:
            faults.append(f"resident memory grew by {(peak - idle) / MIB:.0f} MiB")
        await stack.aclose()

        async def is_empty() -> bool:
            now = await held(ground)
            return now["collected"] + now["held_back"] == 0

        await eventually(is_empty)
        end = resident_bytes(ground)
        if end - idle > 96 * MIB:
            faults.append(f"{(end - idle) / MIB:.0f} MiB more are left")
    text = f"{2 * each} slow readers: +{(peak - idle) / MIB:.0f} MiB, afterwards +{(end - idle) / MIB:.0f} MiB"
    return Figure(text, faults)


ROW = Row(
    "every memory driven to its bound at once",
    "RSS <= stated bound + 64 MiB; afterwards <= idle + 96 MiB",
    measure,
)


@pytest.mark.timeout(240)
async def test_the_node_stays_within_the_memory_that_it_states(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
