"""The power goes at every moment of a store's life, with three kinds of loss; then a store starts on what is left."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import StoreFull
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.store.store import MARKER_BYTES, Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.faults.figures import Figure, Size, at_least, none_of
from tests.faults.recorder import Recorder
from tests.faults.trace import Disk, Loss, Op
from tests.support.content import blob
from tests.support.stored import PIECE, bytes_on_disk, representation, running_store, settled

NAMES = tuple(f"o{number}" for number in range(6))
LENGTHS = (10, PIECE, 3 * PIECE + 5, 9 * PIECE, 14 * PIECE + 1, 6 * PIECE)
CAPACITY = 40 * PIECE
STEPS = 60


def body_of(rep: Representation) -> bytes:
    """Bytes that no other generation of any object has."""
    seed = hashlib.sha256(f"{rep.object_id} {rep.validators.etag}".encode()).digest()
    return blob(int.from_bytes(seed[:4]), rep.length_bytes)


class Life:
    """Random operations on one store that keep to its rules; each generation has bytes of its own."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store = store
        self._rng = rng

    async def step(self) -> None:
        """One operation."""
        often = (self._create, self._fill, self._fill, self._read, self._read)
        operation = self._rng.choice((*often, self._forget, self._mark, self._refresh, self._rows))
        try:
            await operation()
        except StoreFull:
            pass

    def _id(self) -> str:
        return representation(self._rng.choice(NAMES)).object_id

    async def _create(self) -> None:
        number = self._rng.randrange(len(NAMES))
        etag = f'"{self._rng.getrandbits(32)}"'
        await self._put(await self._store.create(representation(NAMES[number], LENGTHS[number], etag=etag)))

    async def _fill(self) -> None:
        found = await self._store.find(self._id())
        if isinstance(found, StoredObject):
            await self._put(found)

    async def _put(self, obj: StoredObject) -> None:
        obj.hold()
        try:
            missing = obj.pieces.pieces_in_state(0, len(obj.pieces), ABSENT)
            body = body_of(obj.representation)
            for piece in self._rng.sample(missing, self._rng.randint(0, len(missing))):
                start, stop = obj.pieces.bounds(piece)
                digest = hashlib.sha256()
                with await self._store.reserve(obj, piece) as reservation:
                    await self._store.write(obj, start, body[start:stop], digest)
                    await self._store.commit(obj, piece, digest.digest(), reservation)
        finally:
            obj.release()

    async def _read(self) -> None:
        found = await self._store.find(self._id())
        if isinstance(found, StoredObject):
            await self._store.check(found, found.pieces.pieces_in_state(0, len(found.pieces), STORED))

    async def _forget(self) -> None:
        await self._store.forget(self._id(), reason="purged")

    async def _mark(self) -> None:
        await self._store.mark_vary(VaryMarker(self._id(), ("accept",)), service="own")

    async def _refresh(self) -> None:
        found = await self._store.find(self._id())
        if isinstance(found, StoredObject):
            await self._store.refresh(found, replace(found.representation, response_time_s=self._rng.random()))

    async def _rows(self) -> None:
        self._store.write_rows()
        await self._store.volumes[0].catalogue.flush()


async def record(directory: Path, seed: int) -> list[Op]:
    """The trace of three lives of one volume, of which one ends cleanly."""
    rng, recorder = random.Random(seed), Recorder(directory)
    with recorder.layer.installed():
        for clean in (False, True, False):
            async with running_store(directory, capacity_bytes=CAPACITY, open_objects=4, clean=clean) as store:
                life = Life(store, rng)
                for _ in range(STEPS):
                    await life.step()
    return recorder.end()


@dataclass(slots=True)
class Verdict:
    """On some cuts."""

    cuts: int = 0
    pieces: int = 0
    """Pieces that would have been served."""
    bad: list[str] = field(default_factory=list)
    unrecovered: list[str] = field(default_factory=list)


async def judge(directory: Path, verdict: Verdict, label: str) -> None:
    """Start a store on what is left: every piece that it would serve is right, and its books are."""
    async with running_store(directory, capacity_bytes=CAPACITY, clean=False) as store:
        markers = 0
        for name in NAMES:
            found = await store.find(representation(name).object_id)
            markers += isinstance(found, VaryMarker)
            if isinstance(found, StoredObject):
                await store.check(found, found.pieces.pieces_in_state(0, len(found.pieces), STORED))
                _compare(found, verdict, label)
        await settled()
        ledger, held = store.volumes[0].ledger.stored_bytes, bytes_on_disk(directory) + MARKER_BYTES * markers
        if ledger != held:
            verdict.unrecovered.append(f"{label}: the ledger says {ledger}, the disk holds {held}")
        rep = representation("new", PIECE)
        await Life(store, random.Random(1))._put(await store.create(rep))
        if not isinstance(await store.find(rep.object_id), StoredObject):
            verdict.unrecovered.append(f"{label}: a new object is not found")


def _compare(obj: StoredObject, verdict: Verdict, label: str) -> None:
    body = body_of(obj.representation)
    for piece in obj.pieces.pieces_in_state(0, len(obj.pieces), PRESENT):
        start, stop = obj.pieces.bounds(piece)
        verdict.pieces += 1
        if os.pread(obj.file.fd, stop - start, start) != body[start:stop]:
            verdict.bad.append(f"{label}: {obj.representation.key} piece {piece}")


def cut_all(trace: Sequence[Op], seed: int, step: int, phase: int, until_s: float) -> Verdict:
    """Cut after every ``step``-th call from ``phase`` on, with every loss, while there is time."""
    verdict, disk = Verdict(), Disk()
    logging.getLogger("cacheserver").setLevel(logging.ERROR)  # pieces that prove bad are what is expected here
    memory = Path("/dev/shm")
    for number, op in enumerate(trace):
        disk.apply(op)
        if number % step != phase or time.monotonic() > until_s:
            continue
        for loss in Loss:
            label = f"seed {seed}, after call {number} ({op.kind} {op.path}), {loss.value}"
            rng = random.Random(f"{seed} {number} {loss}")
            with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
                directory = Path(place) / "cache"
                directory.mkdir(mode=0o700)
                disk.write_out(directory, loss, rng)
                try:
                    asyncio.run(judge(directory, verdict, label))
                except Exception as exc:  # a store that does not start is what is looked for
                    verdict.unrecovered.append(f"{label}: {type(exc).__name__}: {exc}")
            verdict.cuts += 1
    return verdict


async def run(directory: Path, size: Size) -> list[Figure]:
    """10,000 cut points times three losses in full size, on both cores; 100 times three reduced."""
    wanted, until_s = size.choose(100, 10_000), time.monotonic() + size.choose(240, 3600)
    verdicts: list[Verdict] = []
    loop, processes = asyncio.get_running_loop(), size.choose(1, len(os.sched_getaffinity(0)))
    points, seed = 0, 0
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while points < wanted and time.monotonic() < until_s:
            place = directory / f"trace{seed}"
            place.mkdir(mode=0o700)
            trace = await record(place, seed)
            shutil.rmtree(place)
            step = max(1, len(trace) // wanted, processes)
            phases = range(processes if step == processes else 1)
            calls = [loop.run_in_executor(pool, cut_all, trace, seed, step, phase, until_s) for phase in phases]
            verdicts += await asyncio.gather(*calls)
            points, seed = sum(verdict.cuts for verdict in verdicts) // len(Loss), seed + 1
    bad = [line for verdict in verdicts for line in verdict.bad]
    unrecovered = [line for verdict in verdicts for line in verdict.unrecovered]
    for line in (*bad[:5], *unrecovered[:10]):
        print("  ", line)
    fault = f"power cut at {points} points, {len(Loss)} losses each"
    pieces = sum(verdict.pieces for verdict in verdicts)
    return [
        none_of(fault, "bad pieces served", len(bad), among=f"{pieces} pieces"),
        none_of(fault, "starts that do not recover alone", len(unrecovered), among=f"{points * len(Loss)} starts"),
        at_least(fault, "cut points", points, wanted),
        at_least(fault, "pieces that survive a cut", pieces / max(1, points * len(Loss)), 1),
    ]
