"""Clients of the model: whole answers, ranges, conditions, HEAD and several ranges, plain and over TLS, pipelined too.

Owns what is asked and the tally. Must not decide what is right: ``model_truth`` does.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.load import GONE
from tests.faults.model_truth import JOINED_S, Asked, Path, Truth, Verdicts
from tests.support.certificates import NAME
from tests.support.client import ProtocolError, RawClient, Response
from tests.support.ground import HOST, was_hit
from tests.support.node import Node

_APART = 4096
"""Ranges that are closer may be sent as one."""


@dataclass(slots=True)
class Excuses:
    """Times at which something was done to the node that breaks answers off."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    def cover(self, sent_s: float, ended_s: float) -> bool:
        """Whether any of them overlaps a request, or ended a moment before it."""
        return any(began <= ended_s and ended + JOINED_S >= sent_s for began, ended in self.spans)


@dataclass(slots=True)
class Asking:
    """What the clients of one round share."""

    node: Node
    truth: Truth
    verdicts: Verdicts
    killed: Excuses = field(default_factory=Excuses)
    """The node was killed: its connections break."""
    full: Excuses = field(default_factory=Excuses)
    """Its disk had no room."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    unexplained: list[str] = field(default_factory=list)
    """Answers that broke off or failed although nothing was done to node, path or disk."""
    tls: ssl.SSLContext | None = None
    began_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def _said(self, asked: Asked, what: str) -> str:
        """For a list of examples."""
        after_s = asyncio.get_running_loop().time() - self.began_s
        return f"after {after_s:.1f} s: {asked.method} {asked.path} {asked.fields}: {what}"

    def connection(self, rng: random.Random) -> RawClient:
        """Plain, or over TLS."""
        if self.tls is None or rng.random() < 0.75:
            return RawClient(*self.node.content)
        listening = [line for line in self.node.log if line.get("event") == "listening"][-1]
        host, port = listening["tls"][0].rsplit(":", 1)
        return RawClient(host, int(port), tls=(self.tls, NAME))

    async def keep_asking(self, rng: random.Random) -> None:
        """Ask until ``stop``; connect again whenever the connection is gone."""
        while not self.stop.is_set():
            try:
                async with self.connection(rng) as client:
                    while not self.stop.is_set() and await self.some(client, rng):
                        pass
            except GONE:
                await asyncio.sleep(0.02)

    async def some(self, client: RawClient, rng: random.Random) -> bool:
        """A few requests for one path; whether the connection is of further use."""
        path = rng.choice(list(self.truth.paths.values()))
        if rng.random() < 0.3:  # what the fast lane answers: the same plain GET again
            return await self.pipelined(client, [whole(path)] * rng.randint(2, 4))
        return await self.pipelined(client, [drawn(path, rng)]) and rng.random() > 0.05

    async def pipelined(self, client: RawClient, asked: list[Asked]) -> bool:
        """Send all requests, then read the answers; whether the last one was complete."""
        sent = b"".join(client.head(each.method, each.path, each.fields, host=HOST) for each in asked)
        await client.send(sent)
        for each in asked:
            if not await self._one(client, each):
                return False
        return True

    async def _one(self, client: RawClient, asked: Asked) -> bool:
        response: Response | None = None
        try:
            response = await client.receive_head(asked.method)
            await client.finish(response)
        except ProtocolError as exc:
            self.verdicts.wrong.append(self._said(asked, str(exc)))
            return False
        except GONE as exc:
            self._cut(asked, f"{type(exc).__name__}, {'no head' if response is None else self._began(asked, response)}")
            if response is None:
                return False
        self._note(asked, response)
        return response.complete

    def _note(self, asked: Asked, response: Response) -> None:
        ended_s = asyncio.get_running_loop().time()
        if response.status >= 500:
            self.verdicts.refused[response.status] += 1
            status = response.fields.value("Cache-Status")
            told = f"{response.status} after {ended_s - asked.sent_s:.2f} s; {status}"
            self.verdicts.unexcused[response.status] += not self._explained(asked, told, ended_s)
        elif wrong := self.truth.judge(asked, response, ended_s):
            self.verdicts.wrong.append(self._said(asked, wrong))
        elif response.complete:
            self.verdicts.right += 1
            self.verdicts.kinds[f"{asked.method} {response.status}{' hit' * was_hit(response)}"] += 1
        elif response.ending is not None:
            self._cut(asked, f"{self._began(asked, response)} after {len(response.body)} bytes")

    def _began(self, asked: Asked, response: Response) -> str:
        """An answer of which some bytes came."""
        number, newest = response.fields.value("X-Generation"), self.truth.paths[asked.path].generations[-1].number
        return f"{response.status} of generation {number} ({newest}), {response.fields.value('Cache-Status')}"

    def _cut(self, asked: Asked, how: str) -> None:
        self.verdicts.cut += 1
        ended_s = asyncio.get_running_loop().time()
        self._explained(asked, f"cut: {how} after {ended_s - asked.sent_s:.2f} s", ended_s)

    def _explained(self, asked: Asked, what: str, ended_s: float) -> bool:
        """Whether something was done to node, disk or path that excuses the answer; noted where not."""
        path = self.truth.paths[asked.path]
        since_s = asked.sent_s - path.lifetime_s - JOINED_S
        excused = self.killed.cover(asked.sent_s, ended_s) or self.full.cover(asked.sent_s, ended_s)
        if not excused and not path.disturbed(since_s, ended_s):
            self.unexplained.append(self._said(asked, what))
            return False
        return True


def _asked(
    path: Path, method: str, fields: tuple[tuple[str, str], ...], spans: tuple[tuple[int, int], ...] = ()
) -> Asked:
    return Asked(path.path, method, fields, spans, asyncio.get_running_loop().time())


def whole(path: Path) -> Asked:
    """A plain GET."""
    return _asked(path, "GET", ())


def drawn(path: Path, rng: random.Random) -> Asked:
    """Any request for a path."""
    generation = rng.choice(path.generations[-3:])
    fields: list[tuple[str, str]] = []
    if any(name == "Vary" for name, _ in path.fields):
        fields.append(("Accept-Language", rng.choice(("de", "en"))))
    if (draw := rng.random()) < 0.08:
        return _asked(path, "HEAD", tuple(fields))
    if draw < 0.25:
        kinds: list[Callable[[], tuple[str, str | None]]] = [
            lambda: ("If-None-Match", generation.content.entity_tag),
            lambda: ("If-Modified-Since", generation.content.last_modified),
        ]
        name, value = rng.choice(kinds)()
        return _asked(path, "GET", (*fields, (name, value)) if value is not None else tuple(fields))
    if draw < 0.45:
        return _asked(path, "GET", tuple(fields))
    spans = _spans(rng, len(generation.body), rng.randint(2, 4) if draw < 0.6 else 1)
    fields.append(("Range", "bytes=" + ", ".join(f"{start}-{stop - 1}" for start, stop in spans)))
    if rng.random() < 0.2:
        fields.append(("If-Range", generation.content.entity_tag or generation.content.last_modified or ""))
    return _asked(path, "GET", tuple(fields), tuple(spans))


def _spans(rng: random.Random, length: int, count: int) -> list[tuple[int, int]]:
    """Up to ``count`` ranges in order, apart from one another; always one."""
    if count == 1 or length < 20 * _APART:
        start = rng.randrange(length)
        return [(start, rng.randint(start + 1, length))]
    points = sorted(rng.sample(range(length // _APART), 2 * count))
    return [(_APART * a, _APART * b) for a, b in zip(points[::2], points[1::2], strict=True) if a < b][:count]
