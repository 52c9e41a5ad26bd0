"""Slots: caps per origin and in all, the most urgent first, nothing lost when a waiter leaves."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.fill.slots import Priority, Slots
from tests.support.filling import CancelAt
from tests.support.stored import settled


class Crowd:
    """Tasks that take a slot and keep it until they are told to end."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.entered: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, origin: str = "o", priority: Priority = Priority.DEMANDED, **how: bool) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name, origin, priority, **how))
        await settled()

    async def _stay(self, name: str, origin: str, priority: Priority, **how: bool) -> None:
        async with self.slots.slot(origin, priority, **how):
            self.entered.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks.pop(name)
        await settled()

    async def cancel(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()


async def test_no_more_than_the_total_run_at_once() -> None:
    crowd = Crowd(Slots(per_origin=10, total=2))
    for name in "abc":
        await crowd.add(name, origin=name)
    assert crowd.entered == ["a", "b"]
    await crowd.end("a")
    assert crowd.entered == ["a", "b", "c"]
    await crowd.end("b")
    await crowd.end("c")
    assert crowd.slots._used.total() == 0


async def test_a_full_origin_holds_up_nobody_else() -> None:
    crowd = Crowd(Slots(per_origin=1, total=10))
    await crowd.add("a1", "a")
    await crowd.add("a2", "a")
    await crowd.add("b1", "b")
    assert crowd.entered == ["a1", "b1"]
    await crowd.end("a1")
    assert crowd.entered == ["a1", "b1", "a2"]
    for name in ("b1", "a2"):
        await crowd.end(name)


async def test_the_most_urgent_waits_least_and_equals_keep_their_order() -> None:
    crowd = Crowd(Slots(per_origin=1, total=1))
    await crowd.add("first")
    await crowd.add("background", priority=Priority.BACKGROUND)
    await crowd.add("ahead", priority=Priority.READ_AHEAD)
    await crowd.add("demanded 1")
    await crowd.add("demanded 2")
    for name in ("first", "demanded 1", "demanded 2", "ahead", "background"):
        await crowd.end(name)
    assert crowd.entered == ["first", "demanded 1", "demanded 2", "ahead", "background"]


async def test_an_answer_that_is_open_already_does_not_queue() -> None:
    crowd = Crowd(Slots(per_origin=1, total=1))
    await crowd.add("holder")
    await crowd.add("open", at_once=True)
    assert crowd.entered == ["holder", "open"]
    await crowd.add("next")
    await crowd.end("holder")
    assert crowd.entered == ["holder", "open"], "two held: one back is not room for another"
    await crowd.end("open")
    assert crowd.entered[-1] == "next"
    await crowd.end("next")


async def test_a_waiter_that_leaves_is_passed_over() -> None:
    crowd = Crowd(Slots(per_origin=1, total=1))
    for name in "abc":
        await crowd.add(name)
    await crowd.cancel("b")
    await crowd.end("a")
    assert crowd.entered == ["a", "c"]
    await crowd.cancel("c")
    assert crowd.slots._used.total() == 0


async def test_a_slot_that_was_just_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    slots = Slots(per_origin=1, total=1)
    crowd = Crowd(slots)
    async with slots.slot("o", Priority.DEMANDED):
        await crowd.add("b")
        await crowd.add("c")
    given = crowd._tasks.pop("b")
    given.cancel()  # its turn has come, but it has not run since
    with pytest.raises(asyncio.CancelledError):
        await given
    await settled()
    assert crowd.entered == ["c"]
    await crowd.end("c")
    assert slots._used.total() == 0


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_cancellation_anywhere_gives_the_slot_back(number: int) -> None:
    slots = Slots(per_origin=1, total=1)
    crowd = Crowd(slots)
    await crowd.add("holder")

    async def work() -> None:
        async with slots.slot("o", Priority.DEMANDED):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def cancelled() -> None:
        await CancelAt(work(), number)

    task = asyncio.create_task(cancelled())
    if number == 1:
        await settled()
    await crowd.end("holder")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slots._used.total() == 0
    await crowd.add("next")
    assert crowd.entered == ["holder", "next"]
    await crowd.end("next")
