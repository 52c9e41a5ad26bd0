"""Slots: waiting tasks are woken in their turn, nothing is lost when one leaves, what is quiet makes room."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.concurrency.awake import unwatch, watch
from cacheserver.core.turns.origin import Limits
from cacheserver.core.turns.shares import Priority
from cacheserver.fill import slots as module
from cacheserver.fill.slots import AnswerInSlot, Errand, Slots
from tests.support.filling import CancelAt, filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled


class Crowd:
    """Tasks that take a slot and keep it until they are told to end."""

    def __init__(self, per_origin: int = 1, total: int = 1) -> None:
        self.slots = Slots(Limits(per_origin, total))
        self.entered: list[str] = []
        self.all_in = asyncio.Event()
        self.errands: dict[str, Errand] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def add(
        self, name: str, origin: str = "o", priority: Priority = Priority.DEMANDED, at_once: bool = False
    ) -> None:
        self._ends[name] = asyncio.Event()
        self.all_in.clear()
        self.errands[name] = Errand(name, priority, at_once=at_once)
        self.tasks[name] = asyncio.create_task(self._stay(name, origin))
        await settled()

    async def _stay(self, name: str, origin: str) -> None:
        slot = await self.slots.take(origin, name, self.errands[name])
        try:
            self.entered.append(name)
            if len(self.entered) == len(self.tasks):
                self.all_in.set()
            await self._ends[name].wait()
        finally:
            slot.give_back()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks.pop(name)
        await settled()

    async def cancel(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()

    @property
    def used(self) -> int:
        return self.slots.turns.used


async def test_who_waits_is_woken_when_a_slot_is_given_back() -> None:
    crowd = Crowd(per_origin=10, total=2)
    for name in "abc":
        await crowd.add(name, origin="o")
    assert crowd.entered == ["a", "b"]
    for name in "abc":
        await crowd.end(name)
    assert crowd.entered == ["a", "b", "c"]
    assert crowd.used == 0


async def test_a_full_origin_holds_up_nobody_else() -> None:
    crowd = Crowd(per_origin=1, total=10)
    await crowd.add("a1", "a")
    await crowd.add("a2", "a")
    await crowd.add("b1", "b")
    assert crowd.entered == ["a1", "b1"]
    await crowd.end("a1")
    assert crowd.entered == ["a1", "b1", "a2"]
    for name in ("b1", "a2"):
        await crowd.end(name)


async def test_a_part_of_a_request_that_holds_a_slot_does_not_queue() -> None:
    crowd = Crowd()
    await crowd.add("holder")
    await crowd.add("part", at_once=True)
    assert crowd.entered == ["holder", "part"]
    await crowd.add("next")
    await crowd.end("holder")
    assert crowd.entered == ["holder", "part"], "two held: one back is not room for another"
    await crowd.end("part")
    assert crowd.entered[-1] == "next"
    await crowd.end("next")


async def test_a_waiter_that_leaves_is_passed_over() -> None:
    crowd = Crowd()
    for name in "abc":
        await crowd.add(name)
    assert crowd.slots.waits(crowd.tasks["b"])
    assert not crowd.slots.waits(crowd.tasks["a"])
    await crowd.cancel("b")
    await crowd.end("a")
    assert crowd.entered == ["a", "c"]
    await crowd.cancel("c")
    assert crowd.used == 0


async def test_a_slot_that_was_just_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    crowd = Crowd()
    slot = await crowd.slots.take("o", "x", Errand())
    await crowd.add("b")
    await crowd.add("c")
    slot.give_back()
    given = crowd.tasks.pop("b")
    given.cancel()  # its turn has come, but it has not run since
    with pytest.raises(asyncio.CancelledError):
        await given
    await settled()
    assert crowd.entered == ["c"]
    await crowd.end("c")
    assert crowd.used == 0


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_cancellation_anywhere_gives_the_slot_back(number: int) -> None:
    crowd = Crowd()
    await crowd.add("holder")

    async def work() -> None:
        slot = await crowd.slots.take("o", "x", Errand())
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            slot.give_back()

    async def cancelled() -> None:
        await CancelAt(work(), number)

    task = asyncio.create_task(cancelled())
    if number == 1:
        await settled()
    await crowd.end("holder")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert crowd.used == 0
    await crowd.add("next")
    assert crowd.entered == ["holder", "next"]
    await crowd.end("next")


async def test_who_joins_a_waiting_task_brings_it_forward() -> None:
    crowd = Crowd()
    for name in ("first", "second"):
        await crowd.add(name)
    await crowd.add("ahead", priority=Priority.READ_AHEAD)
    crowd.slots.join(crowd.tasks["ahead"], "somebody")
    for name in ("first", "second"):
        await crowd.end(name)
    assert crowd.entered == ["first", "second", "ahead"]
    await crowd.end("ahead")


async def test_a_request_that_is_silent_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    crowd = Crowd(per_origin=1, total=10)
    await crowd.add("silent")
    await crowd.add("other")
    await asyncio.wait_for(crowd.all_in.wait(), 5)
    assert crowd.entered == ["silent", "other"]
    for name in ("silent", "other"):
        await crowd.end(name)
    assert crowd.used == 0


async def test_an_answer_that_nobody_reads_makes_room_until_it_is_read_again(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(bytes(10_000))) as rig:
        answer = await rig.asker.send(want_for())
        assert isinstance(answer, AnswerInSlot)
        slot, turn = answer.slot, answer.slot._turn
        await answer.read()
        quiet = []
        for passed_s in (0.0, module.QUIET_S):
            slot._read_s -= passed_s
            slot._look()
            quiet.append(turn.quiet)
        await answer.read()
        assert [*quiet, turn.quiet] == [False, True, False]
        while await answer.read():
            pass
        assert rig.asker.slots.turns.used == 0, "the end of the body is the end of the request"
        answer.close()


async def test_between_two_tries_an_opening_holds_no_slot(tmp_path: Path) -> None:
    upstream, used = ScriptedUpstream(b"x"), list[int]()
    upstream.script.extend([Turn(status=503)] * 3)
    async with filling(tmp_path, upstream) as rig:
        upstream.opened = lambda: used.append(rig.asker.slots.turns.used)
        await rig.coordinator.open(want_for(), (0, None))
        assert used == [1, 1, 1]
        assert rig.asker.slots.turns.used == 0


async def test_an_opening_that_still_queues_goes_with_its_last_client(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(b"x")
    async with filling(tmp_path, upstream, options=quick(per_origin=1, total=1)) as rig:
        holder = await rig.asker.send(want_for("holder"))
        clients = [asyncio.create_task(rig.coordinator.open(want_for(), (0, None))) for _ in range(2)]
        await settled()
        clients[0].cancel()
        await settled()
        assert rig.asker.slots.turns.origins["http://a.test"].waiting[0] == 1, "one is still there"
        clients[1].cancel()
        await settled()
        assert rig.asker.slots.turns.origins["http://a.test"].waiting[0] == 0
        holder.close()
        assert len(upstream.requests) == 1
        await rig.opened(want_for())
        await rig.assert_clean()


async def test_a_fill_that_nobody_reads_counts_as_left(tmp_path: Path) -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(bytes(3 * PIECE))
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(replace(want_for(), client="c"))
        flow = rig.asker.slots.turns.origins["http://a.test"].flows["c"]
        assert flow.orphans == 1
        reader = rig.coordinator.reader(obj, want_for(), 0, PIECE, whole=False)
        assert flow.orphans == 0
        reader.close(reached=0)
        assert flow.orphans == 1
        gate.set()
        await rig.assert_clean()
        assert flow.orphans == 0


async def test_what_nobody_waits_for_is_given_up_sooner_where_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROWDED_S", -1.0)
    crowd = Crowd(per_origin=1, total=9)
    await crowd.add("left")
    left, given_up = crowd.errands["left"], []
    left.set_orphan(True)
    given_up.append(left.is_given_up)
    await crowd.add("elsewhere", origin="other")
    given_up.append(left.is_given_up)
    await crowd.add("waits")
    given_up.append(left.is_given_up)
    left.set_orphan(False)
    assert [*given_up, left.is_given_up] == [False, False, True, False]
    for task in crowd.tasks.values():
        task.cancel()
    await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)


async def test_what_the_node_slept_through_is_neither_silence_nor_a_client_that_left() -> None:
    watch()
    try:
        crowd = Crowd(per_origin=1, total=9)
        await crowd.add("asks")
        await crowd.add("waits")
        errand = crowd.errands["asks"]
        errand.set_orphan(True)
        slot = errand.slot
        assert slot is not None
        asyncio.get_running_loop().call_soon(time.sleep, 2.1)
        await asyncio.sleep(0)
        slot._look()
        assert not slot._turn.quiet
        assert not errand.is_given_up
    finally:
        unwatch()
        for task in crowd.tasks.values():
            task.cancel()
        await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)
