"""A store with known objects, bits to flip in it, and a scrubber whose rests move a hand clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cacheserver.core.cache.representation import Representation
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Load
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.store.store import Store
from tests.support.flow import PATIENCE_S
from tests.support.stored import PIECE, HandClock, found, put, representation


def representations(count: int, pieces: int = 8) -> list[Representation]:
    """Representations of this many objects; each last piece is short."""
    return [representation(f"o{number}", (pieces - 1) * PIECE + 100 + number) for number in range(count)]


async def stored(store: Store, reps: Sequence[Representation]) -> None:
    """Store all of them, and have every row written."""
    for rep in reps:
        await put(store, rep)
    store.write_rows()
    for volume in store.volumes:
        await volume.catalogue.flush()


async def flip(store: Store, rep: Representation, piece: int, bit: int = 0) -> None:
    """Flip one bit of a stored piece on the disk."""
    obj = await found(store, rep)
    start, stop = obj.pieces.bounds(piece)
    at = start + bit // 8 % (stop - start)
    with open(obj.file.path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit % 8]))


YIELD_S = 0.0005
"""What a rest takes in real time: a loop that spins would keep the interpreter from the threads that read."""


@dataclass(slots=True)
class Scene:
    """A running scrubber and what it did: ``reads`` are the times on the clock and the bytes."""

    store: Store
    clock: HandClock
    options: ScrubOptions
    reads: list[tuple[float, int]] = field(default_factory=list)
    fills: int = 0
    sent_bytes: int = 0
    rests: int = 0
    scrubber: Scrubber = field(init=False)
    _wanted: Callable[[], bool] = lambda: True
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.scrubber = Scrubber(
            store=self.store,
            options=self.options,
            clock=self.clock,
            load=Load(fills=lambda: self.fills, sent_bytes=lambda: self.sent_bytes, clock=self.clock),
            count=lambda size: self.reads.append((self.clock.now_s, size)),
            piece_size_bytes=PIECE,
            rest=self.rest,
        )

    async def rest(self, wake: asyncio.Event, seconds: float) -> None:
        """Rest by moving the clock, unless something is to be done; time stands still once a test has what it wants."""
        self.rests += 1
        if self._wanted():
            self._arrived.set()
            await self._go_on.wait()
        if not wake.is_set():
            self.clock.now_s += seconds
        await asyncio.sleep(YIELD_S)

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Let time run until ``wanted`` holds at a rest; TimeoutError when it never does."""
        self._wanted = wanted
        self._arrived.clear()
        self._go_on.set()
        self._go_on.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self._arrived.wait()

    async def until_read(self, pieces: int) -> None:
        """Until that many pieces were read."""
        await self.until(lambda: len(self.reads) >= pieces)

    async def until_complete(self) -> None:
        """Until one even pass is over."""
        await self.until(lambda: bool(self.scrubber.progress()["last_complete"]))

    async def for_rests(self, more: int) -> None:
        """Until it has rested so many times more."""
        since = self.rests
        await self.until(lambda: self.rests > since + more)

    async def scrubbed_now(self) -> dict[str, int]:
        """Have everything scrubbed; the numbers of that pass."""
        assert self.scrubber.start_now()
        await self.until(lambda: not self.scrubber.progress()["now"]["running"])
        now: dict[str, int] = self.scrubber.progress()["now"]
        return now


@asynccontextmanager
async def scrubbing(
    store: Store, clock: HandClock | None = None, options: ScrubOptions | None = None
) -> AsyncIterator[Scene]:
    """A scrubber that runs; only what is asked for happens where ``options`` are not given."""
    scene = Scene(store, clock or HandClock(), options or ScrubOptions(enabled=False))
    task = asyncio.create_task(scene.scrubber.run())
    try:
        yield scene
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
