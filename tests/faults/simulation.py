"""Seeded simulations: drawn clients, origins, disk errors and changes on simulated time, the invariants at each step.

I8 is a rule of answers to clients and I7 one of cancellation points: both have tests of their own.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec

from cacheserver.core.errors import CacheserverError, GenerationChanged, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.keys import object_id
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target
from cacheserver.fill.asking import Want
from cacheserver.fill.outcome import Stored
from cacheserver.maintenance.purging import purge
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.delivery import Delivery
from cacheserver.web.answer.object_reply import BodyPart, ObjectReply
from cacheserver.web.heads import Head
from cacheserver.web.sending.response import ResponseWriter
from cacheserver.web.sending.wire import ClientGone
from tests.faults.disk_layer import Call, DiskLayer, works
from tests.faults.figures import Figure, Size, at_least, none_of
from tests.faults.invariants import Invariants
from tests.faults.simulated import InlineExecutor, LateExecutor, SimulatedLoop, SimulatedUpstream, SimulatedWire
from tests.support.filling import Rig, filling, quick
from tests.support.stored import PIECE

SERVICE = Service(name="own", hosts=("a.test",), own=True)
PATHS = ("/a", "/b", "/c", "/d")
CAPACITY = 40 * PIECE
STEPS = 60
_STUCK_S = 100_000.0
"""Simulated; by then every deadline has passed."""
_SLOW = ((1.0, 0.08), (0.15, 0.5), (0.03, 2.0))
"""Shares of disk calls that take long, and how long at most: all together leave the deadlines of clients alone."""
_TOO_LATE = "no byte came in time"
_REST_S = 60.0
"""Simulated; what is under way ends by then on the slowest disk."""


def want_for(path: str, service: Service = SERVICE) -> Want:
    """What a client wants that sends more fields than the service's rule names."""
    key = f"http://a.test{path}"
    target = Target(Form.HOST, service, "http", "a.test", 80, path, key, object_id(key))
    return Want(target, Fields((("Cookie", "id=1"), ("X-Unkeyed", "evil"), ("User-Agent", "someone"))))


class Simulation:
    """One seed."""

    def __init__(self, rig: Rig, upstream: SimulatedUpstream, layer: DiskLayer, rng: random.Random) -> None:
        self._rig = rig
        self._upstream = upstream
        self._layer = layer
        self._rng = rng
        self._delivery = Delivery(coordinator=rig.coordinator, store=rig.store, relay=rig.relay)
        self._clients: list[asyncio.Task[Any]] = []
        self._sick = rng.random() < 0.5
        self._purging = rng.random() < 0.9
        self._service = SERVICE
        self._purged: dict[str, int] = {}
        """Path → number of the generation that its origin held when its last confirmed purge began."""
        self._invariants = Invariants(rig, upstream, layer)
        self.delivered = 0

    async def run(self) -> None:
        """Everything that was drawn; AssertionError where an invariant does not hold."""
        watching = asyncio.ensure_future(self._invariants.watch())
        try:
            await self._run()
        finally:
            watching.cancel()

    async def _run(self) -> None:
        for _ in range(STEPS):
            self._draw()
            await asyncio.sleep(self._rng.random())
            self._rig.clock.now_s = 1000 + asyncio.get_running_loop().time()
            self._invariants.check()
        self._layer.rule = works
        self._upstream.healthy = True
        for ended in await asyncio.gather(*self._clients, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self._at_rest()
        await asyncio.sleep(10)  # a volume that was offline or full comes back
        self._rig.clock.now_s += 20
        self._invariants.check()
        for path in PATHS:
            await self._must_be_served(path)
        await self._at_rest()
        await self._warm()
        await self._rig.assert_clean()

    async def _at_rest(self) -> None:
        await asyncio.sleep(_REST_S)
        await self._rig.idle()

    def _draw(self) -> None:
        draw = self._rng.random()
        if draw < 0.6:
            patience = self._rng.choice((1 << 30, 1 << 30, self._rng.randrange(12 * PIECE)))
            self._clients.append(asyncio.ensure_future(self._client(self._rng.choice(PATHS), patience)))
        elif draw < 0.7 and self._clients:
            self._rng.choice(self._clients).cancel()
        elif draw < 0.75:
            self._upstream.change(self._rng.choice(PATHS))
        elif draw < 0.8 and self._purging:
            self._clients.append(asyncio.ensure_future(self._purge(self._rng.choice(PATHS))))
        elif draw < 0.83:
            self._reload()
        elif draw < 0.9 and self._sick:
            self._layer.rule = self._rng.choice((works, self._failing(0.05), self._failing(0.5)))
        else:
            self._rig.store.write_rows()

    def _reload(self) -> None:
        """Requests from now on are of a service with other rules; what is under way goes on with those of before."""
        self._service = msgspec.structs.replace(
            SERVICE,
            lifetime=self._rng.choice(("rfc", "immutable")),
            forward_fields=self._rng.choice(((), ("Accept-Language",))),
        )

    async def _purge(self, path: str) -> None:
        """Purge a path, most often just after it has changed, while it is asked for; and ask for it at once."""
        if self._rng.random() < 0.7:
            self._clients.append(asyncio.ensure_future(self._client(path, 1 << 30)))
            await asyncio.sleep(self._rng.random() * 0.5)
            self._upstream.change(path)
        held = len(self._upstream.generations[path]) - 1
        done = await purge(self._rig.store, want_for(path).target.object_id)
        if not done.away and not done.left_on:
            self._purged[path] = max(held, self._purged.get(path, 0))
        await self._client(path, 1 << 30)

    def _failing(self, share: float) -> Any:
        number = self._rng.choice((errno.EIO, errno.ENOSPC))

        def rule(call: Call) -> int:
            # The catalogue's thread keeps no order with the others: what it draws would differ from run to run.
            if call.name in ("rows", "fsync") or call.path.startswith("catalogue") or self._rng.random() >= share:
                return 0
            return number if call.writes or number == errno.EIO else 0

        return rule

    async def _must_be_served(self, path: str) -> None:
        """With nothing wrong any more; an answer that meets a new generation half way is asked for again."""
        for _ in range(3):
            before = self.delivered
            await self._client(path, 1 << 30, must_end=True)
            if self.delivered > before:
                return
        raise AssertionError(f"{path} is not served although all is well")

    async def _client(self, path: str, patience_bytes: int, *, must_end: bool = False) -> None:
        want, oldest = want_for(path, self._service), self._purged.get(path, 0)
        wire = SimulatedWire(self._rng, patience_bytes=patience_bytes)
        try:
            obj = await self._opened(want)
            if obj is None:  # passed or refused: whoever sends that is not simulated
                assert not must_end
                return
            etags = [generation.etag for generation in self._upstream.generations[path]]
            assert etags.index(obj.representation.validators.etag or "") >= oldest, f"{path} is older than its purge"
            await self._deliver(want, obj, wire)
        except GenerationChanged:
            pass
        except UpstreamTimeout as exc:
            if must_end or str(exc) == _TOO_LATE:  # no source of this world is that slow
                raise
        except (CacheserverError, ClientGone):
            if must_end:
                raise
        except asyncio.CancelledError:
            if must_end:
                raise

    async def _opened(self, want: Want) -> StoredObject | None:
        """What an answer is made of: what is stored, perhaps after the origin was asked whether it holds."""
        obj = await self._rig.lookup.find(want)
        if obj is None:
            outcome, _first = await self._rig.coordinator.open(want, (0, None))
        elif self._rng.random() < 0.3:
            outcome = await self._rig.revalidation.run(obj, want)
        else:
            return obj
        if isinstance(outcome, Stored):
            return outcome.obj
        if (answer := getattr(outcome, "answer", None)) is not None:
            answer.close()
        return None

    async def _deliver(self, want: Want, obj: StoredObject, wire: SimulatedWire) -> None:
        if not obj.usable:
            raise GenerationChanged("the object was replaced")
        length = obj.representation.length_bytes
        start = self._rng.randrange(length) if length and self._rng.random() < 0.5 else 0
        stop = self._rng.randint(start + 1, length) if length > start and self._rng.random() < 0.5 else length
        body = self._body_of(want.target.path_and_query, obj)[start:stop]
        channel = ResponseWriter(cast(Any, wire), method="GET", http_10=False, keep_alive=True)
        reply = ObjectReply(
            Head(200, (), stop - start), (BodyPart(b"", start, stop),) if stop > start else (), whole=start == 0
        )
        obj.hold()
        try:
            await self._delivery.send(channel, want, obj, reply)
            got = bytes(wire.got).partition(b"\r\n\r\n")[2]
            assert got == body, f"I1, I5: wrong bytes in an answer for {want.target.path_and_query}"
            self.delivered += 1
        finally:
            got = bytes(wire.got).partition(b"\r\n\r\n")[2]
            assert body.startswith(got), f"I1, I5: wrong bytes before a cut for {want.target.path_and_query}"
            obj.release()

    def _body_of(self, path: str, obj: StoredObject) -> bytes:
        etag = obj.representation.validators.etag
        return next(g.body for g in self._upstream.generations[path] if g.etag == etag)

    async def _warm(self) -> None:
        """I6: a hit of what is present asks no source, no thread and no database."""
        for path in PATHS:
            want = want_for(path)
            obj = self._rig.lookup.peek(want)
            if not isinstance(obj, StoredObject) or not obj.pieces.present(0, obj.representation.length_bytes):
                continue
            executor = cast(InlineExecutor, self._rig.store.executor)
            before = executor.calls, self._layer.made["row"], len(self._upstream.requests)
            await self._deliver(want, obj, SimulatedWire(self._rng, patience_bytes=1 << 30))
            assert (executor.calls, self._layer.made["row"], len(self._upstream.requests)) == before, "I6"


async def simulate(directory: Path, seed: int) -> int:
    """One seed; how many answers were delivered whole."""
    rng = random.Random(seed)
    upstream = SimulatedUpstream(rng, PATHS, most_bytes=14 * PIECE)
    layer = DiskLayer(directory)
    options = quick(backoff_s=0.2, span_pieces=2, parallel=3, linger_s=0.5)
    with layer.installed():
        async with filling(directory, cast(Any, upstream), options=options, capacity_bytes=CAPACITY) as rig:
            rig.store.executor.shutdown(wait=True)
            rig.measure_fast_line()  # more goes on at once than where the line has to be measured first
            share, most_s = rng.choice(((0.0, 0.0), (0.0, 0.0), *_SLOW))
            executor = LateExecutor(rng, share=share, most_s=most_s)
            rig.store.executor = rig.store._objects.executor = cast(Any, executor)
            rig.relay = replace(rig.relay, executor=executor)
            simulation = Simulation(rig, upstream, layer, rng)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulatedLoop)
            loop.simulating = True
            try:
                await asyncio.wait_for(simulation.run(), _STUCK_S)
            finally:
                loop.simulating = False
                executor.hurry()
    return simulation.delivered


def run_seeds(first: int, stop: int, until_s: float) -> tuple[int, int, list[str]]:
    """Seeds ``[first, stop)``: how many ran, answers delivered, and what failed."""
    logging.getLogger("cacheserver").setLevel(logging.CRITICAL)  # drawn faults are logged as what they are
    ran, delivered, failed = 0, 0, []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for seed in range(first, stop):
        if time.monotonic() > until_s:
            break
        with TemporaryDirectory(dir=memory) as place:
            try:
                with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
                    delivered += runner.run(simulate(Path(place) / "cache", seed))
            except Exception as exc:
                failed.append(f"seed {seed}: {type(exc).__name__}: {exc}")
        ran += 1
    return ran, delivered, failed


async def run(directory: Path, size: Size) -> list[Figure]:
    """100 seeds reduced, 2,000 in full size; a failing seed is printed."""
    seeds, processes = size.choose(100, 2000), len(os.sched_getaffinity(0))
    until_s, share = time.monotonic() + size.choose(240, 600), -(-seeds // processes)
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = await asyncio.gather(
            *(
                loop.run_in_executor(pool, run_seeds, first, min(first + share, seeds), until_s)
                for first in range(0, seeds, share)
            )
        )
    ran, delivered = sum(result[0] for result in results), sum(result[1] for result in results)
    failed = [line for result in results for line in result[2]]
    for line in failed[:10]:
        print("  ", line)
    fault = f"simulation of {ran} seeds"
    return [
        none_of(fault, "broken invariants", len(failed), among=f"{ran} seeds"),
        at_least(fault, "seeds", ran, seeds),
        at_least(fault, "answers delivered per seed", delivered / max(1, ran), 5),
    ]
