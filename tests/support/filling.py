"""A coordinator over a real store and a scripted source, and ways to read, to cancel and to look for leaks."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.fields import Fields
from cacheserver.core.memory_budget import MemoryBudget
from cacheserver.core.request.keys import object_id
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target
from cacheserver.core.turns.line import Line
from cacheserver.core.turns.origin import Limits
from cacheserver.fill.asking import Asker, Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.judging import Judge
from cacheserver.fill.lookup import Lookup
from cacheserver.fill.metadata import MetadataFetcher
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.opening import Opener
from cacheserver.fill.options import FillOptions
from cacheserver.fill.outcome import Stored
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.fill.relay.relayed_body import Relay
from cacheserver.fill.revalidation import Revalidation
from cacheserver.fill.slots import Slots
from cacheserver.ports import Anchor
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from tests.support.anchors import NoAnchor
from tests.support.meter import CountingMeter
from tests.support.scripted import ScriptedUpstream
from tests.support.stored import PIECE, HandClock, running_store, settled

OWN = Service(name="own", hosts=("a.test",), own=True, forward_fields=("*",))
SHIPPED = Service(name="shipped", hosts=("a.test",), lifetime="immutable")
NODE_ID = "0" * 16
QUICK = FillOptions(linger_s=0, backoff_s=0, span_pieces=2, parallel=2, read_ahead_pieces=4)


def want_for(name: str = "a", *fields: tuple[str, str], service: Service = OWN, form: Form = Form.HOST) -> Want:
    """What a client wants that asks for ``/name``."""
    key = f"http://a.test/{name}"
    target = Target(form, service, "http", "a.test", 80, f"/{name}", key, object_id(key))
    return Want(target, Fields(fields))


class FastLine(Line):
    """A line that nothing fills."""

    def full(self, most_pieces: int) -> int:
        """See ``Line``."""
        return 1000 * most_pieces


@dataclass(slots=True)
class Rig:
    """Everything around a fill."""

    store: Store
    upstream: ScriptedUpstream
    lookup: Lookup
    coordinator: Coordinator
    revalidation: Revalidation
    asker: Asker
    meter: CountingMeter
    clock: HandClock
    fetcher: MetadataFetcher
    relay: Relay
    judge: Judge

    def measure_fast_line(self) -> None:
        """Have the line be known as one that takes every request at once."""
        self.asker.slots.turns.origin("http://a.test").line = FastLine(piece_bytes=PIECE)

    async def opened(self, want: Want, demand: tuple[int, int | None] | None = (0, None)) -> StoredObject:
        """Open an object that can be stored."""
        outcome, _first = await self.coordinator.open(want, demand)
        assert isinstance(outcome, Stored)
        return outcome.obj

    async def opened_or_found(self, want: Want) -> StoredObject:
        """The stored object, opened where there is none yet."""
        return await self.lookup.find(want) or await self.opened(want)

    async def read(
        self, obj: StoredObject, want: Want, start: int = 0, stop: int | None = None, *, whole: bool = True
    ) -> bytes:
        """Deliver ``[start, stop)`` as the web room does."""
        stop = obj.representation.length_bytes if stop is None else stop
        obj.hold()
        reader = self.coordinator.reader(obj, want, start, stop, whole=whole)
        at = start
        try:
            return b"".join([data async for data in _delivered(reader, obj, start, stop)])
        finally:
            at = reader._offset
            reader.close(reached=stop if at == stop else at)
            obj.release()

    @property
    def fills(self) -> list[ObjectFill]:
        """Fills under way."""
        return list(self.coordinator._fills.values())

    async def idle(self) -> None:
        """Until nothing is under way any more."""
        for _ in range(2000):
            if not self.fills and not self._tasks and not self.store.checker._flights._tasks:
                return
            await asyncio.sleep(0.001)
        raise AssertionError(f"still under way: {self.fills} {self._tasks}")

    @property
    def _tasks(self) -> list[Any]:
        flights = (self.coordinator._openings, self.coordinator._metadata, self.revalidation._flights)
        return [key for flight in flights for key in flight._tasks]

    async def assert_clean(self) -> None:
        """Nothing is claimed, reserved, held or open, once all has ended."""
        await self.idle()
        await settled()
        assert self.coordinator.fills_in_flight == 0
        assert self.asker.slots.turns.used == 0
        assert self.meter.fills_running == 0
        assert self.upstream.unclosed == 0, "an answer was not given back"
        assert all(volume.ledger.reserved_bytes == 0 for volume in self.store.volumes)
        assert not any(isinstance(obj, StoredObject) and obj.held for obj in self.store._objects._open.values())


async def _delivered(reader: Reader, obj: StoredObject, start: int, stop: int) -> AsyncIterator[bytes]:
    while start < stop:
        reached = await reader.readable(start)
        assert reached > start
        data = os.pread(obj.file.fd, reached - start, start)
        assert len(data) == reached - start
        yield data
        start = reached
    reader._offset = stop


@asynccontextmanager
async def filling(
    directory: Path,
    upstream: ScriptedUpstream,
    *,
    options: FillOptions = QUICK,
    capacity_bytes: int = 1 << 26,
    admit: Callable[[str], Target | None] = lambda _url: None,
    anchor: Anchor | None = None,
) -> AsyncIterator[Rig]:
    """A rig whose loop must end without an exception that nobody has seen."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
    meter, clock = CountingMeter(), HandClock()
    async with running_store(directory, clock=clock, meter=meter, capacity_bytes=capacity_bytes) as store:
        limits = Limits(options.per_origin, options.total, piece_bytes=PIECE, span_pieces=options.span_pieces)
        asker = Asker(
            upstream=upstream, slots=Slots(limits), node_id=NODE_ID, health=SourceHealth(), clock=clock, meter=meter
        )
        fetcher = MetadataFetcher(
            asker=asker, anchor=anchor or NoAnchor(), admit=admit, meter=meter, clock=clock, negative_s=3
        )
        context = FillContext(store, asker, options, meter)
        buffer = BodyBuffer(limit_bytes=1 << 20, budget=MemoryBudget(4 << 20))
        opener = Opener(context, fetcher=fetcher, piece_size_bytes=PIECE, buffer=buffer)
        coordinator = Coordinator(context, opener=opener, fetcher=fetcher, clock=clock)
        revalidation = Revalidation(context, opener=opener, begin=coordinator.begin, remembered=coordinator.remembered)
        judge = Judge(
            store=store,
            anchor=anchor or NoAnchor(),
            recheck=coordinator.recheck,
            hold_timeout_s=options.hold_timeout_s,
            meter=meter,
        )
        lookup = Lookup(store=store, asker=asker, judge=judge)
        relay = Relay(
            asker=asker,
            meter=meter,
            executor=store.executor,
            hold_timeout_s=options.hold_timeout_s,
            piece_size_bytes=PIECE,
        )
        yield Rig(store, upstream, lookup, coordinator, revalidation, asker, meter, clock, fetcher, relay, judge)
        await revalidation.stop()
        await coordinator.stop()
    await settled()
    gc.collect()
    await settled()
    assert not unseen, unseen


def quick(**changes: Any) -> FillOptions:
    """QUICK with other values."""
    return msgspec.structs.replace(QUICK, **changes)


class CancelAt:
    """Runs a coroutine and has its task cancelled while it waits for the ``number``-th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], number: int) -> None:
        self._work = work
        self._left = number

    @property
    def reached(self) -> bool:
        """Whether the coroutine waited that often."""
        return self._left <= 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                sent = yield waits_for
            except BaseException as exc:
                step = _throwing(self._work, exc)
            else:
                step = _sending(self._work, sent)


def _throwing(work: Coroutine[Any, Any, Any], exc: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(exc)


def _sending(work: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: work.send(value)
