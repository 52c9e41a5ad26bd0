"""Clients that ask for many things at once and judge every byte, and what can be seen of the node meanwhile.

Owns mixed load and its tally. Must not know what is done to the node.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.client import ConnectionEnded, RawClient, Response
from tests.support.content import blob
from tests.support.ground import FRESH, HOST, Ground, GroundOptions, running_ground
from tests.support.node import Node

__all__ = ["Ground", "GroundOptions", "running_ground"]
WATCHED = "tests.faults.watched"
GONE = (ConnectionEnded, ConnectionError, TimeoutError, OSError)


@dataclass(slots=True)
class Tally:
    """What clients got."""

    right: int = 0
    refused: int = 0
    """Answers 5xx."""
    cut: int = 0
    """Bodies that broke off, and connections that ended instead of an answer; all bytes before were right."""
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All of them."""
        return self.right + self.refused + self.cut + self.wrong

    def judge(self, response: Response, truths: Sequence[bytes], status: int) -> None:
        """Note one answer that should carry one of ``truths`` under ``status``."""
        if response.status >= 500:
            self.refused += 1
        elif response.status != status or not any(truth.startswith(response.body) for truth in truths):
            self._wrong(
                f"status {response.status}, {len(response.body)} bytes, {response.fields.value('Content-Range')}"
            )
        elif not response.complete:
            self.cut += 1
        elif response.body in truths:
            self.right += 1
        else:
            self._wrong(f"{len(response.body)} bytes in complete framing")

    def add(self, other: Tally) -> None:
        """Take over what other clients got."""
        self.right += other.right
        self.refused += other.refused
        self.cut += other.cut
        self.wrong += other.wrong
        self.examples += other.examples

    def _wrong(self, how: str) -> None:
        self.wrong += 1
        self.examples.append(how)


def random_span(rng: random.Random, length: int, piece_bytes: int) -> tuple[int, int] | None:
    """What one client asks for: all, a probe, a whole piece, or any range; None stands for all."""
    kind = rng.random()
    if kind < 0.25 or not length:
        return None
    if kind < 0.4:
        return 0, min(2, length)
    if kind < 0.75:
        start = rng.randrange(length) // piece_bytes * piece_bytes
        return start, min(start + piece_bytes, length)
    start = rng.randrange(length)
    return start, rng.randint(start + 1, length)


async def ask(client: RawClient, path: str, body: bytes, span: tuple[int, int] | None, tally: Tally) -> Response:
    """One request and its judgement; raises one of GONE when no head comes."""
    if span is None:
        response = await client.request("GET", path, host=HOST)
        tally.judge(response, (body,), 200)
        return response
    start, stop = span
    response = await client.request("GET", path, (("Range", f"bytes={start}-{stop - 1}"),), host=HOST)
    tally.judge(response, (body[start:stop],), 206)
    return response


async def mixed_client(
    node: Node,
    bodies: Callable[[], dict[str, bytes]],
    rng: random.Random,
    tally: Tally,
    stop: asyncio.Event,
    *,
    piece_bytes: int,
) -> None:
    """Ask and ask, mostly on one connection, until ``stop``; connects again when the node is gone."""
    while not stop.is_set():
        try:
            async with RawClient(*node.content) as client:
                while not stop.is_set():
                    path, body = rng.choice(list(bodies().items()))
                    span = random_span(rng, len(body), piece_bytes)
                    try:
                        response = await ask(client, path, body, span, tally)
                    except GONE:
                        tally.cut += 1
                        raise
                    if not response.complete or rng.random() < 0.1:
                        break
        except GONE:
            await asyncio.sleep(0.01)


class Objects:
    """Objects of known bytes at the origin, fresh for an hour."""

    def __init__(self, ground: Ground, rng: random.Random, *, most_bytes: int) -> None:
        self._ground = ground
        self._rng = rng
        self._most_bytes = most_bytes
        self.bodies: dict[str, bytes] = {}

    def add(self, size: int | None = None) -> str:
        """One more, at a path that was never asked for."""
        body = blob(self._rng.getrandbits(32), self._rng.randint(0, self._most_bytes) if size is None else size)
        path = self._ground.add(body, headers=FRESH)
        self.bodies[path] = body
        return path

    def replace_oldest(self, count: int) -> None:
        """Let the oldest go and add as many new ones."""
        for path in list(self.bodies)[:count]:
            del self.bodies[path]
            self.add()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a node uses at one moment."""

    descriptors: int
    """Without object files, which stay open for the next client (``store.open_objects``), and without the catalogue's,
    which each thread opens when it first needs them."""
    tasks: int
    fills: int
    rss_bytes: int


async def reading(node: Node) -> Reading:
    """Of a watched node."""
    pid, mark = node.process.pid, len(node.log)
    fills = int((await node.metrics()).total("cacheserver_fills_in_flight"))
    node.process.send_signal(signal.SIGUSR1)
    line = await node.wait_log(lambda line: line.get("event") == "watched", since=mark)
    return Reading(_descriptors(pid), int(line["tasks"]), fills, rss_bytes(pid))


def _links(pid: int) -> list[str]:
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    return links


def _descriptors(pid: int) -> int:
    return sum("/objects/" not in link and "/catalogue/" not in link for link in _links(pid))


async def steady_reading(node: Node) -> Reading:
    """The first reading whose counts have stayed the same for two seconds: what is idle has been closed."""
    last, same = await reading(node), 0
    while same < 4:
        await asyncio.sleep(0.5)  # what is measured here is time
        now = await reading(node)
        same = same + 1 if (now.descriptors, now.tasks, now.fills) == (last.descriptors, last.tasks, last.fills) else 0
        last = now
    return last


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


async def settled_reading(node: Node, start: Reading, *, within_s: float = 10.0, slack: int = 2) -> Reading:
    """The first reading that is back at ``start`` but for ``slack``; the last one when none is in time."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while True:
        now = await reading(node)
        back = all(
            abs(after - before) <= slack
            for after, before in (
                (now.descriptors, start.descriptors),
                (now.tasks, start.tasks),
                (now.fills, start.fills),
            )
        )
        if back or loop.time() > until_s:
            return now
        await asyncio.sleep(0.2)
