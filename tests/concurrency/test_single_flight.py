"""The single flight: one task per key, independent of its callers."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.errors import Draining


class Gate:
    """Work that counts its starts and ends when told to."""

    def __init__(self) -> None:
        self.started = 0
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def work(self) -> int:
        self.started += 1
        self.begun.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.started


async def entered(gate: Gate, flights: SingleFlight[str, int], callers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flights.run("a", gate.work)) for _ in range(callers)]
    await gate.begun.wait()
    await asyncio.sleep(0)  # every caller waits by now
    return tasks


async def test_callers_of_one_key_share_one_task_and_its_outcome() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    callers = await entered(gate, flights, 5)
    gate.open.set()
    assert await asyncio.gather(*callers) == [1] * 5
    assert gate.started == 1
    assert "a" not in flights


async def test_callers_of_other_keys_have_tasks_of_their_own() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    gate.open.set()
    assert sorted(await asyncio.gather(flights.run("a", gate.work), flights.run("b", gate.work))) == [1, 2]


async def test_a_later_caller_starts_a_new_task() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    gate.open.set()
    assert [await flights.run("a", gate.work) for _ in range(2)] == [1, 2]


async def test_every_caller_sees_the_failure() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    gate.error = ValueError("bad")
    callers = await entered(gate, flights, 3)
    gate.open.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3


async def test_a_task_goes_on_when_all_its_callers_leave() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    callers = await entered(gate, flights, 2)
    for caller in callers:
        caller.cancel()
    assert all(isinstance(o, asyncio.CancelledError) for o in await asyncio.gather(*callers, return_exceptions=True))
    assert "a" in flights
    joined = asyncio.create_task(flights.run("a", gate.work))
    gate.open.set()
    assert await joined == 1


async def test_a_caller_that_was_cancelled_can_have_the_outcome_taken_care_of() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    left: list[int] = []
    caller = asyncio.create_task(flights.run("a", gate.work, on_cancelled=lambda task: left.append(task.result())))
    other = asyncio.create_task(flights.run("a", gate.work, on_cancelled=lambda task: left.append(-task.result())))
    await gate.begun.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert not left, "its task has not ended yet"
    gate.open.set()
    assert await other == 1
    assert left == [1]


async def test_stop_ends_the_task_and_its_callers_hear_that_the_node_goes_down() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    callers = await entered(gate, flights, 2)
    await flights.stop()
    assert "a" not in flights
    for caller in callers:
        with pytest.raises(Draining):
            await caller


async def test_settled_waits_for_the_task_and_not_for_its_success() -> None:
    gate, flights = Gate(), SingleFlight[str, int]("test")
    gate.error = ValueError("bad")
    (caller,) = await entered(gate, flights, 1)
    waiting = asyncio.create_task(flights.settled("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.open.set()
    await waiting
    with pytest.raises(ValueError, match="bad"):
        await caller
    await flights.settled("a")
