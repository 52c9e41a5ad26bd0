"""Plays the rows of ``verified_rows`` against one real node: a first client, then a second one once the origin is well.

Owns the playing, many rows at a time. What an outcome means is for the tests to say.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.node.verified_rows import Row, Shape, shape_of
from tests.support.client import ConnectionEnded, RawClient
from tests.support.content import Content, Fault
from tests.support.flow import eventually
from tests.support.ground import DO_HOST
from tests.support.manifests import b64, manifest_of, phf, phf_path, signed_catalogue
from tests.support.node import Metrics, Node, running_node
from tests.support.origin import Origin

Case = tuple[str, str]
"""Mode and name of the row."""

BARE = ("simple", "digest")
"""Modes without a manifest."""
_AT_ONCE = 24
_CONFIG = """
[upstream]
connect_timeout_s = 1.0
head_timeout_s = 0.7
stall_timeout_s = 0.7
[fill]
backoff_s = 0.02
span_pieces = 1
parallel = 2
linger_s = 0
negative_s = 0
hold_timeout_s = 10.0
spool_bytes = "4MiB"
[store]
piece_size = "{piece}"
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One answer: ``right``, ``wrong`` (complete, but other bytes), ``cut`` or ``error``."""

    word: str
    clean: bool
    """Whether every byte that came was right, complete or not."""
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the clients of one row got."""

    first: tuple[Step, ...]
    second: tuple[Step, ...]

    @property
    def missed(self) -> bool:
        """Whether wrong bytes went out, or were kept, as if they were right."""
        return any(step.word == "wrong" for step in (*self.first, *self.second))


@dataclass(frozen=True, slots=True)
class Played:
    """Everything that came of one run."""

    outcomes: dict[Case, Outcome]
    after_restart: dict[Case, Step]
    metrics: Metrics


def path_of(case: Case) -> str:
    """The content's path; its GUID is the case's own."""
    return f"/filestreamingservice/files/{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(case))}"


_OF_THE_ALIAS: tuple[Case, ...] = tuple(("alias", str(number)) for number in range(3))


def shard(number: int) -> str:
    """A host of the service that no other client uses, so that a ban touches one row only."""
    return f"{number}.tlu.{DO_HOST}"


async def play(directory: Path, rows: Mapping[Case, Row], *, piece: int, ranges: bool = False) -> Played:
    """Play all rows; ``ranges``: clients ask for a part in the middle as well."""
    shape = shape_of(piece)
    numbered = {case: number for number, case in enumerate(rows)}
    async with Origin() as origin, _node(directory, origin, shape, rows) as node:
        await _ban_the_alias(node, origin, shape)
        turns = asyncio.Semaphore(_AT_ONCE)
        player = _Player(node, origin, shape, ranges)

        async def one(case: Case) -> Outcome:
            async with turns:
                return await player.play(case, rows[case], shard(2 * numbered[case]), shard(2 * numbered[case] + 1))

        outcomes = dict(zip(rows, await asyncio.gather(*map(one, rows)), strict=True))
        metrics = await node.metrics()
        await origin.go_down()
        await node.restart()
        after = {case: await player.ask(path_of(case), shard(2 * numbered[case] + 1), None) for case in rows}
        await origin.come_up()
    return Played(outcomes, after, metrics)


@asynccontextmanager
async def _node(directory: Path, origin: Origin, shape: Shape, cases: Iterable[Case]) -> AsyncIterator[Node]:
    cases = list(cases)
    hosts = [DO_HOST, *(shard(number) for number in range(2 * len(cases)))]
    anchored = {
        path_of(case).rpartition("/")[2]: manifest_of(shape.body, shape.piece)
        for case in cases
        if case[0] == "anchored"
    } | {path_of(case).rpartition("/")[2]: manifest_of(shape.body, shape.piece) for case in _OF_THE_ALIAS}
    config = _CONFIG.format(piece=shape.piece) + signed_catalogue(directory, anchored)
    connect_to = dict.fromkeys(hosts, origin.address)
    async with running_node(directory, connect_to=connect_to, config=config, max_size="4GiB") as node:
        yield node


async def _ban_the_alias(node: Node, origin: Origin, shape: Shape) -> None:
    """The service's plain name is another source of every shard: take it out, so that each row has one source."""
    for path in map(path_of, _OF_THE_ALIAS):
        origin.add(path, shape.content(bytes(shape.size)))
        origin.add(phf_path(path), Content(phf(shape.body, shape.piece)))

    async def banned() -> bool:
        for path in map(path_of, _OF_THE_ALIAS):
            await node.get(path, host=DO_HOST)
        return len((await node.status())["banned_sources"]) == 1

    await eventually(banned)


def _in_mode(shape: Shape, mode: str) -> Shape:
    """The content as its origin sends it: not to be stored in mode ``pass``, with its digest in mode ``digest``."""
    digest = b64(hashlib.sha256(shape.body).digest())
    headers = {"pass": (("Cache-Control", "no-store"),), "digest": (("Repr-Digest", f"sha-256=:{digest}:"),)}
    return replace(shape, headers=headers.get(mode, ()))


class _Player:
    def __init__(self, node: Node, origin: Origin, shape: Shape, ranges: bool) -> None:
        self._node = node
        self._origin = origin
        self._shape = shape
        self._parts = [(self._shape.piece + 7, 2 * self._shape.piece + 100)] if ranges else []

    async def play(self, case: Case, row: Row, first_host: str, second_host: str) -> Outcome:
        """One row from beginning to end."""
        path, manifest = path_of(case), phf_path(path_of(case))
        bare, shape = case[0] in BARE, _in_mode(self._shape, case[0])
        self._origin.add(path, row.source(shape) if row.source else shape.content())
        self._origin.fault(path, always=row.fault or Fault())
        if not bare:
            right = Content(phf(shape.body, shape.piece))
            self._origin.add(manifest, row.manifest(shape) if row.manifest else right)
            self._origin.fault(manifest, always=row.manifest_fault or Fault())
        first = [await self.ask(path, first_host, asked) for asked in ((0, 2), *self._parts, None)]
        self._origin.add(path, shape.content())
        self._origin.heal(path)
        if not bare:
            self._origin.add(manifest, right)
            self._origin.heal(manifest)
        second = [
            await self.ask(path, second_host, asked) for asked in (None, (self._shape.piece - 5, self._shape.size))
        ]
        return Outcome(tuple(first), tuple(second))

    async def ask(self, path: str, host: str, asked: tuple[int, int] | None) -> Step:
        """Ask as a cache host's client for a range, half-open, or for everything."""
        start, stop = asked or (0, self._shape.size)
        lines = [("Range", f"bytes={start}-{stop - 1}")] if asked else []
        async with RawClient(*self._node.content) as client:
            try:
                response = await client.start("GET", f"{path}?P1=1&P4=t&cacheHostOrigin={host}", lines)
            except ConnectionEnded as ended:
                return Step("cut", not ended.received, str(ended))
            await client.read_body(response, 2 * self._shape.size)
        truth, body = self._shape.body[start:stop], response.body
        detail = f"{response.status}, {len(body)} of {len(truth)} bytes, {response.fields.value('Cache-Status')}"
        if response.status >= 300 or response.status == 204:
            return Step("error", True, detail)
        clean = truth.startswith(body)
        if not response.complete:
            return Step("cut", clean, detail)
        right = body == truth and response.status == (206 if asked else 200)
        return Step("right" if right else "wrong", clean, detail)
