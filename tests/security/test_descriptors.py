"""One address that takes every connection it can get leaves room for the others and for the administrator."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.security.figures import Figure, Row, Scene
from tests.security.test_neighbours import opened
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, Ground, GroundOptions, running_ground

_ATTACKER = "127.0.4.1"
_BODY = blob(153, 100_000)
_OTHERS = 8
_CONNECTIONS = 512


async def served(ground: Ground, path: str, source: str) -> str:
    """What another address gets; empty where it is right."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await opened(ground.node, source, path, HOST, ask="Connection: close\r\n")
            try:
                got = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as exc:
        return f"{source}: {type(exc).__name__}"
    return "" if got.startswith(b"HTTP/1.1 200") and got.endswith(_BODY[-100:]) else f"{source}: {got[:60]!r}"


async def administered(ground: Ground) -> str:
    """What an administrator gets; empty where it is right."""
    try:
        async with asyncio.timeout(5), RawClient(*ground.node.admin) as client:
            status = (await client.request("GET", "/api/v1/status")).status
    except (OSError, TimeoutError) as exc:
        return f"the administrator: {type(exc).__name__}"
    return "" if status == 200 else f"the administrator: {status}"


async def measure(scene: Scene) -> Figure:
    """Hold all connections that the node gives to one address, on both listeners, and ask as others."""
    attempts = scene.size(6000, 1500)
    faults, kept, asked = list[str](), list[asyncio.StreamWriter](), 0
    async with running_ground(
        scene.directory, GroundOptions(config=f"[server]\nmax_connections = {_CONNECTIONS}\n")
    ) as ground:
        path = ground.add(_BODY)
        await ground.get(path)
        for number in range(attempts):
            where = ground.node.admin if number % 3 == 2 else ground.node.content
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.5):
                    _reader, writer = await asyncio.open_connection(*where, local_addr=(_ATTACKER, 0))
                writer.write(b"GET / HTTP/1.1\r\n" if number % 2 else b"")
                kept.append(writer)
            if number % (attempts // 10) == 0:
                cold = ground.add(_BODY)
                answers = [served(ground, each, f"127.0.5.{n + 1}") for n in range(_OTHERS) for each in (path, cold)]
                found = [*await asyncio.gather(*answers), await administered(ground)]
                asked += len(found)
                faults += [fault for fault in found if fault]
        for writer in kept:
            writer.transport.abort()
    return Figure(
        f"{attempts} connections tried by one address; {asked - len(faults)} of {asked} others served", faults
    )


ROW = Row("all connections that one address can get, on both listeners", "others and the administrator served", measure)


async def test_one_address_leaves_room_for_the_others_and_for_the_administrator(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
