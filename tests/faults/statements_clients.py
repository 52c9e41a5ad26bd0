"""Clients of contents that are spoken of: whole bodies and ranges, plain and over TLS, pipelined, and slow readers.

Owns what is asked and the tally. Must not decide what is right: ``statements_truth`` does.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.load import GONE
from tests.faults.statements_truth import Spoken, Tally
from tests.support.certificates import NAME
from tests.support.client import ProtocolError, RawClient, Response
from tests.support.ground import was_hit
from tests.support.node import Node

TAKEN_BYTES = 70_000
"""What a slow reader takes before it pauses; a piece and a little more."""
_BUFFER_BYTES = 16_384


@dataclass(slots=True)
class Reader:
    """A slow reader; at the end it has read what there was."""

    response: Response | None = None
    must_be_cut: bool = False
    """Something was condemned that it had begun to get."""

    @property
    def was_hit(self) -> bool:
        """Whether all of it was stored when it began."""
        return self.response is not None and was_hit(self.response)


@dataclass(slots=True)
class Asking:
    """What the clients of one round share."""

    node: Node
    contents: list[Spoken]
    tally: Tally
    tls: ssl.SSLContext
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    down: list[tuple[float, float]] = field(default_factory=list)
    """Times at which the node was stopped."""

    last: str = ""
    """How the last answer to ``warm`` went."""

    def connection(self, rng: random.Random, *, slow: bool = False) -> RawClient:
        """Plain, or over TLS."""
        buffer = _BUFFER_BYTES if slow else None
        if rng.random() < 0.6:
            return RawClient(*self.node.content, receive_buffer=buffer)
        listening = [line for line in self.node.log if line.get("event") == "listening"][-1]
        host, port = listening["tls"][0].rsplit(":", 1)
        return RawClient(host, int(port), receive_buffer=buffer, tls=(self.tls, NAME))

    async def keep_asking(self, rng: random.Random) -> None:
        """Ask until ``stop``; connect again whenever the connection is gone."""
        while not self.stop.is_set():
            try:
                if rng.random() < 0.2:
                    async with self.reader(rng, rng.choice(self.contents)):
                        await asyncio.sleep(rng.uniform(0.1, 1.5))  # the pace is what is asked for
                    continue
                async with self.connection(rng) as client:
                    while not self.stop.is_set() and await self._some(client, rng):
                        pass
            except GONE:
                await asyncio.sleep(0.02)

    async def _some(self, client: RawClient, rng: random.Random) -> bool:
        """A few requests for one content; whether the connection is of further use."""
        content, length = (each := rng.choice(self.contents)), len(each.right)
        spans = [(0, length)] * rng.randint(1, 3)
        if rng.random() < 0.4:
            start = rng.randrange(length)
            spans = [(start, rng.randint(start + 1, length))]
        sent_s = asyncio.get_running_loop().time()
        for start, stop in spans:
            lines = () if (start, stop) == (0, length) else (("Range", f"bytes={start}-{stop - 1}"),)
            await client.send(client.head("GET", content.path, lines, host=content.host))
        for start, _stop in spans:
            response = await client.receive_head()
            await client.finish(response)
            self.note(content, start if response.status == 206 else 0, response, sent_s)
            if not response.complete:
                return False
        return rng.random() > 0.1

    @asynccontextmanager
    async def reader(self, rng: random.Random, content: Spoken) -> AsyncIterator[Reader]:
        """A slow reader of a whole content, which pauses for the block and then reads on."""
        reader, sent_s = Reader(), asyncio.get_running_loop().time()
        async with self.connection(rng, slow=True) as client:
            reader.response = response = await client.start("GET", content.path, host=content.host)
            await client.read_body(response, TAKEN_BYTES)
            yield reader
            try:
                await client.finish(response)
            finally:
                self.note(content, 0, response, sent_s)
        if reader.must_be_cut:
            self.tally.under_readers += 1
            if response.complete:
                self.tally.wrong.append(f"{content.path}: COMPLETE although it was condemned under the reader")

    async def warm(self, content: Spoken) -> bytes:
        """Ask for a content until the fast lane knows it; the last body where it was complete."""
        body = b""
        try:
            async with RawClient(*self.node.content) as client:
                for _ in range(2):
                    sent_s = asyncio.get_running_loop().time()
                    response = await client.request("GET", content.path, host=content.host)
                    self.note(content, 0, response, sent_s)
                    self.last = f"{response.status} {response.fields.value('Cache-Status')} {response.body[:60]!r}"
                    body = response.body if response.complete and response.status == 200 else b""
        except GONE:
            return b""
        return body

    def note(self, content: Spoken, start: int, response: Response, sent_s: float) -> None:
        """Judge and count one answer."""
        ended_s = asyncio.get_running_loop().time()
        if response.status not in (200, 206):
            self.tally.refused += 1
            if response.status < 500:
                self.tally.wrong.append(f"{content.path}: status {response.status}")
            return
        try:
            wrong = content.judge(start, response, sent_s, ended_s)
        except ProtocolError as exc:
            wrong = str(exc)
        if wrong:
            status = response.fields.value("Cache-Status")
            self.tally.wrong.append(f"{content.host}{content.path} {response.status} {status}: {wrong}")
        elif response.complete:
            self.tally.right += 1
        else:
            self.tally.cut += 1
