"""Judging in the background: everything when asked, what an anchor was mute about after growing pauses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.judging import Judge
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Load
from cacheserver.maintenance.rejudging import FIRST_PAUSE_S, LONGEST_PAUSE_S, Rejudging
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from tests.maintenance.scene import representations, stored
from tests.support.anchors import SayingAnchor
from tests.support.filling import want_for
from tests.support.flow import eventually
from tests.support.meter import CountingMeter
from tests.support.stored import HandClock, body_of, found, running_store, settled

REPS = representations(3)
WRONG = Claim("catalogue", authentic=True, length_bytes=1)


class Scene:
    """A store of three objects and what judges them."""

    def __init__(self, store: Store, clock: HandClock, anchor: SayingAnchor) -> None:
        self.store, self.clock, self.anchor = store, clock, anchor
        self.fills = 0
        self.judge = Judge(store=store, anchor=anchor, recheck=self.recheck, hold_timeout_s=5, meter=CountingMeter())
        self.judging = Rejudging(
            store=store,
            judge=self.judge,
            recheck=self.recheck,
            admit=self.admit,
            options=ScrubOptions(pause_above_fills=0),
            load=Load(fills=lambda: self.fills, sent_bytes=lambda: 0, clock=clock),
            clock=clock,
        )

    async def recheck(self, obj: StoredObject, want: Want) -> None:
        """Nothing is unsettled here."""
        raise AssertionError("not asked for")

    def admit(self, url: str) -> Target | None:
        """The target of an object of the store."""
        return want_for(url.rpartition("/")[2]).target

    async def left(self) -> int:
        """Objects that are still there."""
        return sum([await self.store.find(rep.object_id) is not None for rep in REPS])


@asynccontextmanager
async def judging(directory: Path, *claims: Claim) -> AsyncIterator[Scene]:
    """A running scene."""
    clock = HandClock()
    async with running_store(directory, clock=clock) as store:
        await stored(store, REPS)
        scene = Scene(store, clock, SayingAnchor(*claims))
        task = asyncio.create_task(scene.judging.run())
        try:
            yield scene
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await scene.judge.stop()


async def test_all_objects_are_judged_when_asked(tmp_path: Path) -> None:
    async with judging(tmp_path, WRONG) as scene:
        await settled()
        assert await scene.left() == 3
        scene.judging.ask_all()
        await eventually(lambda: _gone(scene))


async def _gone(scene: Scene) -> bool:
    return await scene.left() == 0


async def test_judging_waits_while_clients_need_the_drives(tmp_path: Path) -> None:
    async with judging(tmp_path, WRONG) as scene:
        scene.fills = 1
        scene.judging.ask_all()
        await settled()
        assert await scene.left() == 3


async def test_what_an_anchor_was_mute_about_is_asked_again_after_growing_pauses(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path, clock=clock) as store:
        await stored(store, REPS)
        scene = Scene(store, clock, SayingAnchor())
        obj = await found(store, REPS[0])
        scene.anchor.told = Statements.of((), ("content_policy",))
        store.notifications.unjudged(obj)
        pauses = []
        for _ in range(10):
            await scene.judging.judge_due()
            pauses.append(scene.judging._due[obj.object_id] - clock.now_s)
            clock.now_s += pauses[-1] - 1
            await scene.judging.judge_due()
            clock.now_s += 1
        assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
        assert pauses[-2:] == [LONGEST_PAUSE_S, LONGEST_PAUSE_S]
        sha1 = hashlib.sha1(body_of(REPS[0])).digest()
        scene.anchor.told = Statements.of((Claim("content_policy", authentic=True, sha1=sha1),))
        await scene.judging.judge_due()
        assert obj.representation.trust is Trust.ANCHORED
        assert not scene.judging.waiting
