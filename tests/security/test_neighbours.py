"""What one address does, whatever it is, costs the others next to nothing."""

from __future__ import annotations

import asyncio
import re
import socket
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.node import Node, running_node

HOST = "download.windowsupdate.com"
SILENT = "silent.example.test"
SIZE = 200_000
LARGE = 64 << 20
LINE_BPS = 2.5e6
ATTACKER = "127.0.2.1"
_CHUNK = bytes(16_384)
_CONFIG = f"""
[services.silent]
hosts = ["http://*.{SILENT}"]
"""


class Line:
    """An origin behind one line of 20 Mbit/s; paths with ``silent`` in them get no answer."""

    def __init__(self) -> None:
        self.free_s = 0.0
        self._over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, len(_CHUNK)
        )  # the line is behind
        writer.transport.set_write_buffer_limits(len(_CHUNK))
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                await self._answer(head, writer)
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(" ", 2)
        if "silent" in head.partition("\r\n\r\n")[0]:
            await self._over.wait()
        size = SIZE if "/victim" in path else LARGE
        asked = re.search(r"(?im)^range: bytes=(\d+)-(\d*)", head)
        start, stop = (int(asked[1]), min(size, int(asked[2] or size) + 1)) if asked else (0, size)
        more = "Cache-Control: no-store\r\n" if "/pass" in path else ""
        writer.write(
            f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{size}\r\n"
            f'ETag: "1"\r\n{more}Content-Length: {stop - start}\r\n\r\n'.encode()
        )
        left = 0 if method == "HEAD" else stop - start
        while left:
            part = min(left, len(_CHUNK))
            now_s = asyncio.get_running_loop().time()
            self.free_s = max(self.free_s, now_s) + part / LINE_BPS
            await asyncio.sleep(self.free_s - now_s)
            writer.write(_CHUNK[:part])
            await writer.drain()
            left -= part

    def end(self) -> None:
        self._over.set()


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Node]:
    """A node at the end of that line."""
    line = Line()
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0, limit=1 << 16)
    address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    names = {f"{number}.{SILENT}": address for number in range(160)}
    try:
        async with running_node(directory, connect_to={HOST: address, **names}, config=_CONFIG) as node:
            yield node
    finally:
        line.end()
        server.close()


async def opened(node: Node, source: str, target: str, host: str, *, method: str = "GET", ask: str = "") -> Streams:
    streams = await asyncio.open_connection(*node.content, local_addr=(source, 0))
    streams[1].write(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{ask}\r\n".encode())
    return streams


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def victim(node: Node, number: int, target: str) -> tuple[bool, float]:
    """Whether a cold file came whole, and the seconds until its first byte."""
    began_s = asyncio.get_running_loop().time()
    reader, writer = await opened(node, f"127.0.3.{number + 1}", target, HOST, ask=f"Range: bytes=0-{SIZE - 1}\r\n")
    try:
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            first_s = asyncio.get_running_loop().time() - began_s
            await reader.readexactly(SIZE - 1)
    except (TimeoutError, asyncio.IncompleteReadError):
        return False, asyncio.get_running_loop().time() - began_s
    finally:
        writer.close()
    return head.startswith(b"HTTP/1.1 206"), first_s


async def victims(node: Node, word: str, rounds: int) -> tuple[int, float]:
    """How many of eight at once, round after round, were not served; the median of the times to the first byte."""
    failed, times = 0, []
    for turn in range(rounds):
        got = await asyncio.gather(*(victim(node, number, f"/victim/{word}/{turn}/{number}") for number in range(8)))
        failed += sum(not served for served, _ in got)
        times += [first_s for _, first_s in got]
    return failed, statistics.median(times)


async def one_byte_ranges(node: Node, _stack: AsyncExitStack) -> None:
    """Thirty a second on files that nobody has, leaving at once, for ever."""
    number = 0
    while True:
        number += 1
        _reader, writer = await opened(node, ATTACKER, f"/a{number}", HOST, ask="Range: bytes=0-0\r\n")
        await writer.drain()
        writer.close()
        await asyncio.sleep(1 / 30)


async def silent_path(node: Node, stack: AsyncExitStack) -> None:
    """48 requests to a path that gives no answer."""
    for number in range(48):
        await kept(stack, opened(node, ATTACKER, f"/silent/{number}", HOST, ask="Range: bytes=0-0\r\n"))


async def silent_names(node: Node, stack: AsyncExitStack) -> None:
    """160 requests to names that give no answer."""
    for number in range(160):
        await kept(stack, opened(node, ATTACKER, "/silent", f"{number}.{SILENT}"))


async def slow_passes(node: Node, stack: AsyncExitStack) -> None:
    """64 readers of what passes, who take nothing."""
    for number in range(64):
        reader, _writer = await kept(stack, opened(node, ATTACKER, f"/pass/{number}", HOST, ask="Range: bytes=0-\r\n"))
        reader._transport.pause_reading()  # type: ignore[attr-defined]


async def heads(node: Node, stack: AsyncExitStack) -> None:
    """2,000 HEADs of files that nobody has."""
    for each in range(20):
        _reader, writer = await kept(stack, opened(node, ATTACKER, f"/head/{each}", HOST, method="HEAD"))
        for number in range(1, 100):
            writer.write(f"HEAD /head/{each}/{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())


async def kept(stack: AsyncExitStack, opening: Awaitable[Streams]) -> Streams:
    streams = await opening
    stack.callback(streams[1].close)
    return streams


ATTACKS: tuple[Callable[[Node, AsyncExitStack], Awaitable[None]], ...] = (
    one_byte_ranges, silent_path, silent_names, slow_passes, heads,
)  # fmt: skip


async def measure(scene: Scene) -> Figure:
    """The eight alone, then beside each attack."""
    rounds = scene.size(5, 1)
    parts, faults = [], []
    for attack in ATTACKS:
        async with site(scene.room(attack.__name__)) as node, AsyncExitStack() as stack:
            lost, quiet_s = await victims(node, "quiet", rounds)
            attacking = asyncio.ensure_future(attack(node, stack))
            await asyncio.sleep(3)  # the attack has its effect by then
            failed, beside_s = await victims(node, "beside", rounds)
            attacking.cancel()
            await asyncio.wait((attacking,))
        ratio = beside_s / quiet_s
        parts.append(f"{attack.__name__} {ratio:.1f} ({quiet_s * 1000:.0f} → {beside_s * 1000:.0f} ms)")
        if lost or failed:
            faults.append(f"{attack.__name__}: {failed} of {8 * rounds} not served, {lost} when it was quiet")
        if ratio > 2 and scene.full:
            faults.append(f"{attack.__name__}: first byte after {beside_s:.2f} s instead of {quiet_s:.2f} s")
    return Figure("times the quiet first byte: " + ", ".join(parts), faults)


ROW = Row(
    "one address: cold one-byte ranges, silent paths and names, slow passes, HEADs",
    "eight others on 20 Mbit/s: first byte <= 2 x quiet, all served",
    measure,
)


@pytest.mark.timeout(300)
async def test_one_address_keeps_nobody_else_from_being_served(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
