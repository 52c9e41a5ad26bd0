"""The scrubber's walk over one volume: every stored piece is read again and checked against its recorded digest.

Owns: the order (by object id), the position, when to rest. The store handles bad pieces; ``pace`` computes the rate. An
object is held only while one of its pieces is read, so that eviction is not hindered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import msgspec

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import StoreError, VolumeOffline
from cacheserver.core.piece_map import ABSENT
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Debt, Load, paced_rate_bps
from cacheserver.maintenance.scrub_position import Position, load_position, save_position
from cacheserver.ports import Clock
from cacheserver.store.checking import Verdict
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume

Rest = Callable[[asyncio.Event, float], Awaitable[None]]
"""Waits until the event is set, at most so many seconds."""
_log = get_logger(__name__)
_DAY_S: Final = 86_400.0
_PAUSE_S: Final = 2.0
_LONGEST_REST_S: Final = 60.0
"""The store may grow meanwhile, and the pace with it."""
_SAVE_EVERY_S: Final = 60.0
_RECONCILE_S: Final = 30.0


@dataclass(slots=True)
class Progress:
    """One pass over one volume; numbers are of this run of the node."""

    running: bool = False
    paused: bool = False
    """Clients go first just now."""
    failed: bool = False
    """The volume could not be walked to its end."""
    pieces_checked: int = 0
    pieces_total: int = 0
    """An estimate until the end."""
    bytes_checked: int = 0
    bad: int = 0
    unreadable: int = 0


class VolumeScrub:
    """Walks one volume for ever at an even pace, and at once when asked; ``run`` is its one task."""

    def __init__(
        self,
        *,
        store: Store,
        volume: Volume,
        options: Callable[[], ScrubOptions],
        clock: Clock,
        load: Load,
        executor: Executor,
        count: Callable[[int], None],
        piece_size_bytes: int,
        rest: Rest,
    ) -> None:
        """``options`` gives those in force, ``count`` gets the bytes read, ``piece_size_bytes`` serves to estimate."""
        self.now = Progress()
        """The last pass that was asked for."""
        self.paced = Progress()
        self._options = options
        self._store = store
        self._volume = volume
        self._clock = clock
        self._load = load
        self._executor = executor
        self._count = count
        self._piece_size_bytes = piece_size_bytes
        self._rest = rest
        self._debt = Debt(clock)
        self.position = Position()
        self._saved_s = clock.monotonic_s()
        self._asked = False
        self._wake = asyncio.Event()

    def ask(self) -> None:
        """Have a whole pass begin at once; one that was asked for and is not done yet goes on instead."""
        if not self.now.running:
            self.now = Progress(running=True)
            self._asked = True
            self._wake.set()

    async def run(self) -> None:
        """Scrub until cancelled."""
        work = asyncio.get_running_loop().run_in_executor(self._executor, load_position, self._volume.path)
        self.position = await to_the_end(work)
        try:
            while True:
                await self._next()
        finally:
            await self._save()

    async def _next(self) -> None:
        if self._asked:
            await self._pass_now()
            return
        checked = self.paced.pieces_checked
        if self._options().enabled and self._volume.opened and self._volume.ledger.stored_bytes:
            try:
                await self._volume.loaded.wait()
                await self._pass_paced()
            except StoreError as exc:
                event(_log, "scrub_interrupted", volume=self._volume.path, reason=str(exc))
                checked = self.paced.pieces_checked
        if not self._asked and checked == self.paced.pieces_checked:
            await self._rest(self._wake, _LONGEST_REST_S)

    # -- passes -------------------------------------------------------------------------------------------------

    async def _pass_now(self) -> None:
        self._asked = False
        self._wake.clear()
        self._debt.forgive()
        try:
            await self._make_complete()
            await self._walk(self.now, Position())
            self._completed(self.now)
        except StoreError as exc:
            self.now.failed = True
            event(_log, "scrub_interrupted", volume=self._volume.path, reason=str(exc))
        finally:
            self.now.running = self.now.paused = False
        await self._save()

    async def _make_complete(self) -> None:
        """What was stored a moment ago may not be in the catalogue yet, nor what an unclean stop left."""
        if not self._volume.opened:
            raise VolumeOffline(f"volume {self._volume.path} is not open")
        await self._volume.loaded.wait()
        until_s = self._clock.monotonic_s() + _RECONCILE_S
        while not self._volume.reconciled and self._clock.monotonic_s() < until_s:
            await self._rest(self._wake, 0.1)
        self._store.write_rows()
        with contextlib.suppress(StoreError):
            await self._volume.catalogue.flush()

    async def _pass_paced(self) -> None:
        if not self.position.started_s:
            self.position = Position(started_s=self._clock.wall_s(), completed_s=self.position.completed_s)
        if not self.paced.running:
            self.paced = Progress(running=True)
        try:
            if await self._walk(self.paced, self.position):
                self._completed(self.paced)
                self.paced.running = False
            elif not self._options().enabled:
                self.paced.running = False
        finally:
            self.paced.paused = False
            await self._save()

    def _completed(self, progress: Progress) -> None:
        progress.pieces_total = progress.pieces_checked
        if progress is self.now:
            self.paced = Progress()
        self.position = Position(completed_s=self._clock.wall_s())
        facts = {"pieces": progress.pieces_checked, "bad": progress.bad, "unreadable": progress.unreadable}
        event(_log, "scrub_complete", volume=self._volume.path, asked=progress is self.now, **facts)

    def _is_interrupted(self, progress: Progress) -> bool:
        """Whether an even pass has to stop for one that was asked for, or for ever."""
        return progress is self.paced and (self._asked or not self._options().enabled)

    # -- walking ------------------------------------------------------------------------------------------------

    async def _walk(self, progress: Progress, begin: Position) -> bool:
        """Check everything from ``begin`` on; False when interrupted."""
        catalogue = self._volume.catalogue
        progress.pieces_total = await self._estimate()
        async with contextlib.aclosing(catalogue.objects(self._executor, begin.object_id)) as rows:
            async for object_id, _row in rows:
                first = begin.next_piece if object_id == begin.object_id else 0
                if not await self._object(object_id, first, progress):
                    return False
        return not self._is_interrupted(progress)

    async def _estimate(self) -> int:
        """About how many pieces are stored."""
        total = 0
        async for _, row in self._volume.catalogue.objects(self._executor):
            size_bytes = row.length_bytes if row.complete else row.stored_bytes
            total += -(-size_bytes // self._piece_size_bytes)
        return total

    async def _object(self, object_id: str, piece: int, progress: Progress) -> bool:
        """Check one object from a piece on; False when interrupted."""
        with self._store.visiting(object_id):
            while (obj := await self._opened(object_id)) is not None and piece < len(obj.pieces):
                if obj.pieces.state(piece) != ABSENT:
                    await self._turn(progress)
                    if self._is_interrupted(progress):
                        return False
                    # A rest may be long: look again whether it is still there, open, and the same.
                    obj = await self._opened(object_id)
                    if obj is None or piece >= len(obj.pieces):
                        return True
                    await self._check(obj, piece, progress)
                piece += 1
        return True

    async def _opened(self, object_id: str) -> StoredObject | None:
        if not self._volume.online:
            raise VolumeOffline(f"volume {self._volume.path} is offline")
        found = self._store.peek_quietly(object_id)
        if not isinstance(found, StoredObject) or not found.usable:
            found = await self._store.find(object_id)
        return found if isinstance(found, StoredObject) and found.volume is self._volume else None

    async def _check(self, obj: StoredObject, piece: int, progress: Progress) -> None:
        size_bytes = obj.pieces.size_bytes(piece)
        verdict = await self._store.checker.recheck(obj, piece, self._executor)
        if progress is self.paced:
            self.position = msgspec.structs.replace(
                self.position,
                object_id=obj.object_id,
                next_piece=piece + 1,
                done_bytes=self.position.done_bytes + size_bytes,
            )
            if self._clock.monotonic_s() - self._saved_s >= _SAVE_EVERY_S:
                await self._save()
        if verdict is Verdict.GONE:
            return
        self._debt.add(size_bytes)
        self._count(size_bytes)
        progress.pieces_checked += 1
        progress.bytes_checked += size_bytes
        progress.bad += verdict is Verdict.BAD
        progress.unreadable += verdict is Verdict.UNREADABLE

    # -- pace ---------------------------------------------------------------------------------------------------

    async def _turn(self, progress: Progress) -> None:
        """Until the next piece may be read, or the pass is interrupted."""
        while not self._is_interrupted(progress):
            options = self._options()
            if self._load.is_heavy(most_fills=options.pause_above_fills, most_bps=options.busy_rate.bytes):
                progress.paused = True
                await self._rest(self._wake, _PAUSE_S)
                self._debt.forgive()
                continue
            progress.paused = False
            rest_s = self._debt.rest_s(self._rate_bps(progress))
            if not rest_s:
                return
            await self._rest(self._wake, min(rest_s, _LONGEST_REST_S))

    def _rate_bps(self, progress: Progress) -> float:
        most_bps = float(self._options().max_rate.bytes)
        if progress is self.now:
            return most_bps
        return paced_rate_bps(
            stored_bytes=self._volume.ledger.stored_bytes,
            done_bytes=self.position.done_bytes,
            period_s=self._options().days * _DAY_S,
            elapsed_s=self._clock.wall_s() - self.position.started_s,
            most_bps=most_bps,
        )

    async def _save(self) -> None:
        self._saved_s = self._clock.monotonic_s()
        if self._volume.opened:
            loop, path = asyncio.get_running_loop(), self._volume.path
            await to_the_end(loop.run_in_executor(self._executor, save_position, path, self.position))
