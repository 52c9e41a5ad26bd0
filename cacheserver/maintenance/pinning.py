"""Pinned content: fetched whole without a client, kept whatever eviction says, and made whole again when it is not.

Owns: the pins of the node, when each is looked at. Events of the store wake it, it never polls; a failure is tried
again after 1 s, 2 s, 4 s … 5 min. Must not fetch by itself (``fill`` does, after every client) or choose victims.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import CacheserverError, DiskError, PinRefused, StoreError, UpstreamError
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.coordinator import Coordinator
from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.pin import Pin, PinState
from cacheserver.maintenance.pin_opening import opened
from cacheserver.maintenance.pinned_space import PinnedSpace
from cacheserver.maintenance.pins_file import MOST_PINS, EndedPin, SavedPin, SavedPins, load_pins, save_pins
from cacheserver.maintenance.pins_merge import merged, newest
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume

_log = get_logger(__name__)
_LANES: Final = 2
"""Pins that are completed at once."""
_FIRST_LOOK_S: Final = 10.0
_SETTLE_S: Final = 0.5
"""Between a loss and the look at it: several bad pieces are one look, and a new generation has its file by then."""
_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 300.0


class Pinning:
    """All pins of one node."""

    def __init__(
        self,
        *,
        store: Store,
        coordinator: Coordinator,
        admit: Callable[[str], Target | None],
        percent: int,
        retry_s: float = _FIRST_RETRY_S,
    ) -> None:
        """``percent`` of each volume may be pinned; ``retry_s`` is the wait after a first failure."""
        self._store = store
        self._coordinator = coordinator
        self._admit = admit
        self._retry_s = retry_s
        self._pins: dict[str, Pin] = {}
        self.space = PinnedSpace(store.volumes, self._pins, percent=percent)
        self._queue: asyncio.Queue[Pin] = asyncio.Queue()
        self._saving = asyncio.Lock()
        self._number = 0
        self._ended: dict[str, int] = {}
        """Object id of each pin that was ended → the number of that change."""
        self._differs = asyncio.Event()
        """Set when the files of the volumes are not all alike."""
        self._closed = False
        store.notifications.withdrawn.append(self._note_withdrawn)
        store.notifications.created.append(lambda obj: self._note(obj.object_id, PinState.COMPLETE, PinState.WAITING))
        store.notifications.removed.append(lambda object_id: self._note(object_id, PinState.COMPLETE))

    # -- what an operator does ------------------------------------------------------------------------------------

    async def pin(self, url: str, target: Target) -> dict[str, Any]:
        """Pin the content at ``target``, which is what ``url`` names; its facts.

        The origin is asked at once, so that what cannot be pinned is refused; a mute origin is no refusal. Raises
        PinRefused, and StoreError where the pin cannot be written down.
        """
        if self._closed:
            raise StoreError("the node is going down")
        found: StoredObject | BaseException | None = None
        if target.object_id not in self._pins:
            try:
                async with asyncio.timeout(_FIRST_LOOK_S):
                    found = await opened(self._store, self._coordinator, target)
            except (UpstreamError, StoreError, TimeoutError) as exc:
                found = exc
        pin = self._pins.get(target.object_id)
        if pin is None:
            return await self._pin_new(Pin(url, target.object_id), found)
        pin.url, pin.tries = url, 0  # its token is the one most likely to be valid
        pin.changed = self._number + 1
        self._note(pin.object_id, PinState.WAITING)
        await self._save()
        return self._report(pin)

    async def _pin_new(self, pin: Pin, found: StoredObject | BaseException | None) -> dict[str, Any]:
        if len(self._pins) >= MOST_PINS:
            raise PinRefused(f"{MOST_PINS} contents are pinned already")
        if isinstance(found, StoredObject):
            self.space.take(pin, found)
        self._pins[pin.object_id] = pin
        pin.changed = self._number + 1
        try:
            await self._save()
        except StoreError:
            self._forget(pin)
            raise
        if isinstance(found, BaseException):
            self._failed(pin, found)
        elif self._is_current(pin) and pin.state is PinState.WAITING:
            self._due(pin)
        return self._report(pin)

    async def unpin(self, object_id: str) -> bool:
        """End a pin; what is stored stays until eviction takes it. False where there is none. StoreError as ``pin``."""
        pin = self._pins.get(object_id)
        if pin is None:
            return False
        volume = pin.volume
        self._forget(pin)
        self._ended[object_id] = self._number + 1
        try:
            await self._save()
        except StoreError:
            self._pins[object_id] = pin
            pin.volume = volume
            self.space.keep(pin)
            self._soon(pin)
            raise
        for other in self._pins.values():
            if not other.volume:
                self._note(other.object_id, PinState.WAITING)  # there may be room for it now
        return True

    def is_pinned(self, object_id: str) -> bool:
        """Whether an object is pinned, complete or not."""
        return object_id in self._pins

    def pins(self) -> list[dict[str, Any]]:
        """The facts of every pin, oldest first."""
        return [self._report(pin) for pin in self._pins.values()]

    def summary(self) -> dict[str, int]:
        """Numbers for the node's status."""
        states = [pin.state for pin in self._pins.values()]
        return {
            "objects": len(states),
            "complete": states.count(PinState.COMPLETE),
            "waiting": states.count(PinState.WAITING),
            "bytes": sum(pin.size_bytes for pin in self._pins.values()),
        }

    def _report(self, pin: Pin) -> dict[str, Any]:
        found = self._store.peek_quietly(pin.object_id)
        if isinstance(found, StoredObject):
            pin.see(found)
        return pin.report(self._admit(pin.url))

    # -- lifetime -------------------------------------------------------------------------------------------------

    def load(self, volume: Volume) -> None:
        """Take up what a volume knows of pins; before anything is evicted there. Blocking."""
        try:
            saved = load_pins(volume.path)
        except DiskError as exc:
            event(_log, "pins_unreadable", severity=logging.ERROR, volume=volume.path, reason=str(exc))
            return
        mine = self._record()
        both = merged(mine, saved)
        for pin in self._pins.values():  # the volume may be new, or was lost and made anew
            self.space.keep(pin)
            self._note(pin.object_id, PinState.COMPLETE)
        if both != mine:
            self._adopt(both)
        if both != mine != SavedPins() or both != saved:
            event(_log, "pins_merged", volume=volume.path, pins=len(both.pins))
            self._differs.set()

    def _adopt(self, both: SavedPins) -> None:
        self._number = both.number
        self._ended = {ended.object_id: ended.changed for ended in both.ended}
        for pin in [pin for pin in self._pins.values() if pin.object_id in self._ended]:
            self._forget(pin)
        for known in both.pins:
            if (mine := self._pins.get(known.object_id)) is not None:
                mine.url, mine.changed = known.url, known.changed
                continue
            pin = Pin(known.url, known.object_id, known.volume, known.size_bytes, known.changed, told=True)
            self.space.give_up_beyond_limit(pin)
            self._pins[pin.object_id] = pin
            self.space.keep(pin)
            self._due(pin)
        self.readmit()

    def readmit(self) -> None:
        """Find every pin's object anew: the services, and with them the keys, may have changed."""
        for pin in list(self._pins.values()):
            target = self._admit(pin.url)
            if target is None or target.object_id in self._pins:
                continue
            self._forget(pin)
            self._ended[pin.object_id] = self._number + 1
            fresh = self._pins[target.object_id] = Pin(pin.url, target.object_id, changed=self._number + 1)
            self._due(fresh)

    async def run(self) -> None:
        """Look after the pins until cancelled."""
        try:
            for volume in self._store.volumes:
                if volume.opened:
                    await volume.loaded.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_alike(), name="pins written")
                for _ in range(_LANES):
                    group.create_task(self._lane(), name="pins")
        finally:
            self._closed = True
            for pin in self._pins.values():
                pin.stop_timer()

    async def _lane(self) -> None:
        while True:
            pin = await self._queue.get()
            if pin.state is PinState.QUEUED and self._is_current(pin):
                await self._look(pin)

    async def _keep_alike(self) -> None:
        """Write down what was merged, so that every volume knows it."""
        while await self._differs.wait():
            self._differs.clear()
            try:
                await self._save()
            except StoreError as exc:
                event(_log, "pins_unwritten", severity=logging.WARNING, reason=str(exc))

    def _record(self) -> SavedPins:
        pins = self._pins.values()
        ended = [EndedPin(object_id, at) for object_id, at in self._ended.items() if object_id not in self._pins]
        return SavedPins(
            self._number,
            tuple(SavedPin(pin.url, pin.object_id, pin.volume, pin.size_bytes, pin.changed) for pin in pins),
            newest(ended),
        )

    async def _save(self) -> None:
        async with self._saving:
            self._number += 1
            directories = tuple(volume.path for volume in self._store.volumes if volume.opened)
            saved, loop = self._record(), asyncio.get_running_loop()
            await to_the_end(loop.run_in_executor(self._store.executor, save_pins, directories, saved))

    # -- when a pin is looked at ----------------------------------------------------------------------------------

    def _is_current(self, pin: Pin) -> bool:
        return self._pins.get(pin.object_id) is pin

    def _note_withdrawn(self, obj: StoredObject) -> None:
        """Objects are announced when they are closed as well: only a loss counts."""
        if obj.obsolete or not obj.pieces.complete:
            self._note(obj.object_id, PinState.COMPLETE)

    def _note(self, object_id: str, *states: PinState) -> None:
        """Something happened to an object: look at its pin soon, if it is in one of these states."""
        pin = self._pins.get(object_id)
        if pin is not None and pin.state in states:
            self._soon(pin)

    def _soon(self, pin: Pin) -> None:
        pin.stop_timer()
        pin.told = pin.told and pin.state is not PinState.COMPLETE
        pin.state = PinState.WAITING
        pin.timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._due, pin)

    def _due(self, pin: Pin) -> None:
        pin.stop_timer()
        pin.state = PinState.QUEUED
        self._queue.put_nowait(pin)

    def _failed(self, pin: Pin, error: BaseException) -> None:
        if not self._is_current(pin):
            return
        pin.tries += 1
        retry_s = min(_LAST_RETRY_S, self._retry_s * 2 ** min(pin.tries - 1, 16))
        pin.state, pin.reason = PinState.WAITING, str(error) or "no answer in time"
        facts = {"object_id": pin.object_id, "reason": pin.reason, "tries": pin.tries, "retry_s": retry_s}
        event(_log, "pin_failed", severity=logging.WARNING, **facts)
        pin.stop_timer()
        pin.timer = asyncio.get_running_loop().call_later(retry_s, self._due, pin)

    # -- looking at one -------------------------------------------------------------------------------------------

    async def _look(self, pin: Pin) -> None:
        """Have one pin complete, or tried again later."""
        pin.state = PinState.FILLING
        try:
            with self._store.visiting(pin.object_id):
                await self._complete(pin)
        except CacheserverError as exc:
            self._failed(pin, exc)
        except Exception as exc:
            event(_log, "failed", severity=logging.ERROR, reason="internal", kind=type(exc).__name__)
            _log.debug("pin failed", exc_info=True)
            self._failed(pin, exc)

    async def _complete(self, pin: Pin) -> None:
        target = self._admit(pin.url)
        if target is None or target.object_id != pin.object_id:
            raise PinRefused("its host is not allowed on this node any more")
        obj = await opened(self._store, self._coordinator, target)
        with obj.holding():
            pin.see(obj)
            if self._is_current(pin) and self.space.take(pin, obj):
                await self._save()
            pin.told = pin.told and obj.pieces.complete
            await self._coordinator.complete(obj, Want(target, Fields()), lambda: self._is_current(pin))
            self._settle(pin, obj)

    def _settle(self, pin: Pin, obj: StoredObject) -> None:
        """What came of a look that met no error."""
        if not self._is_current(pin):
            return
        if obj.obsolete or not obj.pieces.complete:
            self._soon(pin)
            return
        pin.see(obj)
        pin.state, pin.reason, pin.tries = PinState.COMPLETE, "", 0
        if not pin.told:
            pin.told = True
            event(_log, "pin_completed", object_id=pin.object_id, bytes=pin.stored_bytes, trust=pin.trust)

    def _forget(self, pin: Pin) -> None:
        pin.stop_timer()
        if self._is_current(pin):
            del self._pins[pin.object_id]
        if pin.object_id not in self._pins:
            self.space.give_up(pin)
