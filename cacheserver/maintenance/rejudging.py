"""Judging stored content again in the background: after a change of what is said of it, and where an anchor was mute.

Owns: when an object that no client asks for is judged, the pauses before an anchor is asked again, the pace. The rule
and its consequences are ``fill.judging``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cacheserver.core.errors import CacheserverError, StoreError
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.judging import Judge
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Debt, Load
from cacheserver.ports import Clock
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume

_log = get_logger(__name__)
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 3600.0
MOST_WAITING: Final = 65_536
_PAUSE_S: Final = 2.0
_COST_BYTES: Final = 1 << 18
"""What judging one object counts as, beside what is read of it: at most 400 objects a second by default."""


class Rejudging:
    """Judges the objects that were named, and all of them when asked. ``admit`` gives the target of a URL.

    ``recheck`` asks again for the metadata of an object for which it could not be learnt.
    """

    def __init__(
        self,
        *,
        store: Store,
        judge: Judge,
        recheck: Callable[[StoredObject, Want], Awaitable[None]],
        admit: Callable[[str], Target | None],
        options: ScrubOptions,
        load: Load,
        clock: Clock,
    ) -> None:
        self._store = store
        self._judge = judge
        self._recheck = recheck
        self._admit = admit
        self._options = options
        self._load = load
        self._clock = clock
        self._debt = Debt(clock)
        self._due: dict[str, float] = {}
        """Monotonic time at which an object is judged again."""
        self._pauses: dict[str, float] = {}
        """The last pause before an object of ``_due``, where an anchor was mute."""
        self._wake = asyncio.Event()
        self._asked = {volume: asyncio.Event() for volume in store.volumes}
        store.notifications.unjudged.append(self._note)

    def use(self, options: ScrubOptions) -> None:
        """Take up another pace."""
        self._options = options

    def ask_all(self) -> None:
        """Have every stored object judged, once its volume is loaded; a pass under way begins anew."""
        for asked in self._asked.values():
            asked.set()

    @property
    def waiting(self) -> int:
        """Objects that are to be judged again."""
        return len(self._due)

    async def run(self) -> None:
        """Judge until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_judging())
            for volume in self._asked:
                group.create_task(self._keep_walking(volume))

    def _note(self, obj: StoredObject) -> None:
        if obj.object_id not in self._due and len(self._due) < MOST_WAITING:
            self._due[obj.object_id] = self._clock.monotonic_s()
            self._wake.set()

    # -- named objects ----------------------------------------------------------------------------------------------

    async def _keep_judging(self) -> None:
        while True:
            self._wake.clear()
            await self.judge_due()
            next_s = min(self._due.values(), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if next_s is None else max(0.0, next_s - self._clock.monotonic_s())):
                    await self._wake.wait()

    async def judge_due(self) -> None:
        """Judge the objects whose time has come."""
        now_s = self._clock.monotonic_s()
        for object_id in [each for each, due_s in self._due.items() if due_s <= now_s]:
            await self._again(object_id)

    async def _again(self, object_id: str) -> None:
        """Judge an object; one that is not settled by that is judged again after a longer pause."""
        self._due.pop(object_id)
        if await self._one(object_id, None):
            self._pauses.pop(object_id, None)
            return
        pause_s = min(2 * self._pauses.get(object_id, FIRST_PAUSE_S / 2), LONGEST_PAUSE_S)
        self._pauses[object_id] = pause_s
        self._due[object_id] = self._clock.monotonic_s() + pause_s

    # -- all --------------------------------------------------------------------------------------------------------

    async def _keep_walking(self, volume: Volume) -> None:
        asked = self._asked[volume]
        while True:
            await asked.wait()
            await volume.loaded.wait()
            asked.clear()
            try:
                judged = await self._walk(volume, asked)
            except StoreError as exc:
                event(_log, "judging_interrupted", severity=logging.WARNING, volume=volume.path, reason=str(exc))
            else:
                event(_log, "judged_again", volume=volume.path, objects=judged)

    async def _walk(self, volume: Volume, asked: asyncio.Event) -> int:
        """Judge every object of a volume, unless it is asked for again meanwhile."""
        self._store.write_rows()
        with contextlib.suppress(StoreError):
            await volume.catalogue.flush()
        judged = 0
        async with contextlib.aclosing(volume.catalogue.objects(self._store.executor)) as rows:
            async for object_id, _row in rows:
                if asked.is_set():
                    break
                await self._one(object_id, volume)
                judged += 1
        return judged

    # -- one --------------------------------------------------------------------------------------------------------

    async def _one(self, object_id: str, volume: Volume | None) -> bool:
        """Judge one object, on this volume alone where one is given; False where it is to be judged again."""
        await self._turn()
        try:
            with self._store.visiting(object_id):
                obj = await self._store.find(object_id)
                if not isinstance(obj, StoredObject) or volume not in (None, obj.volume):
                    return True
                target = self._target(obj)
                if target is None:
                    return True
                if obj.representation.unsettled:
                    await self._recheck(obj, Want(target, Fields()))
                outcome = await self._judge.judge(obj, target)
        except CacheserverError as exc:
            _log.debug("not judged", exc_info=exc)
            return False
        self._debt.add(_COST_BYTES + outcome.read_bytes)
        return outcome.settled and not obj.representation.unsettled

    def _target(self, obj: StoredObject) -> Target | None:
        """The target that the object answers; None where its host is not allowed any more, or its key has changed."""
        known = obj.representation
        query = known.primary_key.rpartition("\n")[2]
        target = self._admit(f"{known.origin}{known.path_and_query.partition('?')[0]}{query}")
        return target if target is not None and target.key == known.primary_key else None

    async def _turn(self) -> None:
        """Until the next object may be judged: clients and fills go first."""
        options = self._options
        while self._load.is_heavy(most_fills=options.pause_above_fills, most_bps=options.busy_rate.bytes):
            await asyncio.sleep(_PAUSE_S)
            self._debt.forgive()
        if rest_s := self._debt.rest_s(float(options.max_rate.bytes)):
            await asyncio.sleep(rest_s)
