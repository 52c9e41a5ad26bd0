"""Clients that send, or read, next to nothing lose their connection in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, Ground, GroundOptions, running_ground

_LARGE = 16 << 20
_HEAD_S = 15.0
_ALL_S = 60.0
_QUICK = "[server]\nhead_timeout_s = 1.0\nidle_timeout_s = 2.0\n"
Shape = Callable[[Ground, RawClient, str], Awaitable[None]]


async def closed(client: RawClient) -> None:
    """Wait for the peer's end, whatever comes before it."""
    try:
        while await client._more():
            client._buffer.clear()
    except ConnectionError:
        pass


async def dripping(client: RawClient, text: bytes) -> None:
    """A byte every half second until the node has had enough."""
    ended = asyncio.ensure_future(closed(client))
    for at in range(len(text)):
        try:
            await client.send(text[at : at + 1])
        except OSError:
            break
        if (await asyncio.wait({ended}, timeout=0.5))[0]:
            break
    await ended


async def slow_head(_ground: Ground, client: RawClient, path: str) -> None:
    await dripping(client, f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-A: {'a' * 500}".encode())


async def silent_head(_ground: Ground, client: RawClient, path: str) -> None:
    await client.send(f"GET {path} HTTP/1.1\r\nHost: ".encode())
    await closed(client)


async def slow_body(_ground: Ground, client: RawClient, path: str) -> None:
    await client.send(client.head("GET", path, [("Content-Length", "1000")], host=HOST))
    await dripping(client, b"b" * 300)


async def idle(_ground: Ground, client: RawClient, path: str) -> None:
    assert (await client.request("GET", path, [("Range", "bytes=0-9")], host=HOST)).status == 206
    await closed(client)


async def mute(_ground: Ground, client: RawClient, _path: str) -> None:
    await closed(client)


async def never_reading(ground: Ground, client: RawClient, path: str) -> None:
    """Asks for everything, reads nothing: the node's own log line tells when it has given up."""
    before = len(ground.node.log)
    await client.send(client.head("GET", path, [("X-Slow", "1")] if path.endswith("full") else [], host=HOST))
    while not any(_is_cut(line, path) for line in ground.node.log[before:]):  # noqa: ASYNC110 - told by its log
        await asyncio.sleep(0.2)


def _is_cut(line: dict[str, object], path: str) -> bool:
    sent = line.get("bytes")
    return line.get("path") == path and isinstance(sent, int) and sent < _LARGE


SHAPES: dict[str, tuple[Shape, float]] = {
    "slow head": (slow_head, _HEAD_S),
    "silent head": (silent_head, _HEAD_S),
    "slow body": (slow_body, _ALL_S),
    "idle": (idle, _ALL_S),
    "never sends": (mute, _ALL_S),
}
READING: dict[str, tuple[Shape, float]] = {
    "never reads (lane)": (never_reading, _ALL_S),
    "never reads (full path)": (never_reading, _ALL_S),
}


async def timed(ground: Ground, name: str, shape: Shape, most_s: float) -> tuple[str, float, str | None]:
    """How long one shape was borne."""
    path = ground.add(blob(5, _LARGE), name="full" if "full" in name else "lane")
    for _ in range(2 * name.startswith("never reads")):
        assert (await ground.get(path)).status == 200
    buffer = 4096 if name.startswith("never reads") else None
    async with RawClient(*ground.node.content, timeout_s=90.0, receive_buffer=buffer) as client:
        began_s = time.monotonic()
        await shape(ground, client, path)
        took_s = time.monotonic() - began_s
    return name, took_s, f"{name}: {took_s:.1f} s" if took_s > most_s else None


async def measure(scene: Scene) -> Figure:
    """All shapes at once: with the shipped deadlines, or in a quick run with short ones and without never-reading."""
    shapes = SHAPES | READING if scene.full else SHAPES
    async with running_ground(scene.room("node"), GroundOptions(config="" if scene.full else _QUICK)) as ground:
        limits = {name: bar if scene.full else 4.5 for name, (_, bar) in shapes.items()}
        found = await asyncio.gather(*(timed(ground, name, shape, limits[name]) for name, (shape, _) in shapes.items()))
        # One of each shape is gone, and a new client is served.
        assert (await ground.get(ground.add(b"still here"))).body == b"still here"
    text = ", ".join(f"{name} {took_s:.1f} s" for name, took_s, _ in found)
    return Figure(f"closed after: {text}", [fault for _, _, fault in found if fault is not None])


ROW = Row("slow head, slow body, idle, never-reading clients", "closed <= 60 s, heads <= 15 s", measure)


@pytest.mark.timeout(120)
async def test_slow_clients_lose_their_connection_in_time(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
