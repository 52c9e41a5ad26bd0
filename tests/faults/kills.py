"""SIGKILL at random moments under mixed load: what clients get, what is fetched again, how soon the node is back."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from cacheserver.core.errors import CorruptObject
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.keys import object_id
from cacheserver.store.object.file import ObjectFile
from tests.faults.figures import Figure, Size, at_least, in_time, none_of
from tests.faults.load import Ground, GroundOptions, Objects, Tally, mixed_client, running_ground
from tests.support.node import NodeFailed

PIECE = 65_536
CLIENTS = 6
OBJECTS = 24
CONFIG = '[store]\npiece_size = "64KiB"\n'


@dataclass(slots=True)
class Outcome:
    """Of one node."""

    tally: Tally = field(default_factory=Tally)
    first_byte_s: list[float] = field(default_factory=list)
    stored_pieces: int = 0
    refetched: list[str] = field(default_factory=list)


class Killer:
    """Kills one node over and over."""

    def __init__(self, ground: Ground, seed: int, quiet: asyncio.Lock) -> None:
        """``quiet`` is held while a node starts: what is timed is one start, not two on the same cores."""
        self._ground = ground
        self._quiet = quiet
        self._rng = random.Random(seed)
        self._objects = Objects(ground, self._rng, most_bytes=16 * PIECE)
        self._key = ""
        self.outcome = Outcome()

    async def run(self, kills: int) -> Outcome:
        """All kills."""
        for _ in range(OBJECTS):
            self._objects.add()
        warm = self._objects.add(PIECE)
        body = self._objects.bodies.pop(warm)
        assert (await self._ground.get(warm)).body == body
        self._key = self._only_key().replace(warm, "{path}")
        stored: dict[str, set[int]] = {}
        for _ in range(kills):
            mark = len(self._ground.origin.requests)
            await self._load_until_killed()
            async with self._quiet:
                self._look_for_refetches(mark, stored)
                stored = self._pieces_on_disk()
                self.outcome.stored_pieces += sum(map(len, stored.values()))
                await self._start_again(warm, body)
            self._objects.replace_oldest(2)
        return self.outcome

    async def _load_until_killed(self) -> None:
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(
                mixed_client(
                    self._ground.node,
                    lambda: self._objects.bodies,
                    random.Random(self._rng.random()),
                    self.outcome.tally,
                    stop,
                    piece_bytes=PIECE,
                )
            )
            for _ in range(CLIENTS)
        ]
        await asyncio.sleep(self._rng.uniform(0, 0.3))  # the moment is what is drawn
        await self._ground.node.kill()
        stop.set()
        await asyncio.gather(*clients)

    async def _start_again(self, warm: str, body: bytes) -> None:
        """Start the node, now and then killing it while it starts; until the first byte of what it has."""
        node = self._ground.node
        if self._rng.random() < 0.2:
            starting = asyncio.create_task(node.start())
            await asyncio.wait((starting,), timeout=self._rng.uniform(0.05, 0.6))
            if node.is_running:
                node.process.kill()
            try:
                await starting
                await node.kill()
            except NodeFailed:
                pass
        began_s = time.monotonic()
        await node.start()
        answer = await self._ground.get(warm, ("Range", "bytes=0-0"))
        self.outcome.first_byte_s.append(time.monotonic() - began_s)
        self.outcome.tally.judge(answer, (body[:1],), 206)

    def _only_key(self) -> str:
        """The key of the one object there is."""
        (place,) = self._ground.node.cache_dir.glob(f"objects/??/{'?' * 32}")
        file = ObjectFile.open(str(place))
        assert file is not None
        file.close()
        return file.representation.key

    def _pieces_on_disk(self) -> dict[str, set[int]]:
        """Recorded pieces of every object in use, read from the files themselves while no node runs."""
        found = {}
        for path in self._objects.bodies:
            name = object_id(self._key.replace("{path}", path))
            try:
                file = ObjectFile.open(str(self._ground.node.cache_dir / "objects" / name[:2] / name))
            except CorruptObject:
                continue
            if file is not None:
                found[path] = {piece for piece in range(len(file.pieces)) if file.pieces.state(piece) != ABSENT}
                file.close()
        return found

    def _look_for_refetches(self, mark: int, stored: dict[str, set[int]]) -> None:
        for record in self._ground.origin.requests[mark:]:
            first, _, last = (record.range or "bytes=0-").removeprefix("bytes=").partition("-")
            pieces = stored.get(record.path, set())
            until = int(last) // PIECE if last else max(pieces, default=0)
            again = pieces.intersection(range(int(first) // PIECE, until + 1))
            self.outcome.refetched += [f"{record.path} piece {piece} by {record.range}" for piece in sorted(again)]


async def _one_node(directory: Path, kills: int, seed: int, quiet: asyncio.Lock) -> Outcome:
    options = GroundOptions(config=CONFIG, max_size="8GiB")
    async with running_ground(directory, options) as ground:
        return await Killer(ground, seed, quiet).run(kills)


async def run(directory: Path, size: Size) -> list[Figure]:
    """Two nodes share the kills."""
    kills = size.choose(20, 1000)
    quiet = asyncio.Lock()
    outcomes = await asyncio.gather(
        _one_node(directory / "one", kills // 2, 1, quiet), _one_node(directory / "two", kills // 2, 2, quiet)
    )
    fault = f"kill -9, {kills} times"
    requests = sum(outcome.tally.requests for outcome in outcomes)
    wrong = [example for outcome in outcomes for example in outcome.tally.examples]
    again = [example for outcome in outcomes for example in outcome.refetched]
    pieces = sum(outcome.stored_pieces for outcome in outcomes)
    for example in (*wrong[:5], *again[:5]):
        print("  ", example)
    return [
        none_of(fault, "wrong answers", len(wrong), among=f"{requests} requests"),
        none_of(fault, "stored pieces fetched again", len(again), among=f"{pieces} pieces at hand"),
        at_least(fault, "stored pieces at hand per kill", pieces / kills, 10),
        in_time(fault, "first byte after exec", [s for o in outcomes for s in o.first_byte_s], 2.0, size),
    ]
