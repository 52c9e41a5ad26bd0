"""The keyed lock: turns per key, nothing kept for keys at rest."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.concurrency.keyed_lock import KeyedLock


class Work:
    """Enters a key, says so, and leaves when it is let go."""

    def __init__(self, locks: KeyedLock[str], log: list[str], name: str, key: str) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self._what = (locks, log, name, key)

    async def run(self) -> None:
        locks, log, name, key = self._what
        async with locks.holding(key):
            log.append(name)
            self.entered.set()
            await self.leave.wait()


async def test_holders_of_one_key_take_turns_in_their_order() -> None:
    locks, log = KeyedLock[str](), list[str]()
    works = [Work(locks, log, name, "a") for name in ("one", "two", "three")]
    tasks = [asyncio.create_task(work.run()) for work in works]
    for number, work in enumerate(works, start=1):
        await work.entered.wait()
        assert log == ["one", "two", "three"][:number]
        work.leave.set()
    await asyncio.gather(*tasks)
    assert "a" not in locks


async def test_other_keys_do_not_wait() -> None:
    locks, log = KeyedLock[str](), list[str]()
    one, two = Work(locks, log, "one", "a"), Work(locks, log, "two", "b")
    tasks = [asyncio.create_task(work.run()) for work in (one, two)]
    await one.entered.wait()
    await two.entered.wait()
    assert "a" in locks
    assert "b" in locks
    one.leave.set()
    two.leave.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_waiter_leaves_the_turn_to_the_next() -> None:
    locks, log = KeyedLock[str](), list[str]()
    works = [Work(locks, log, name, "a") for name in ("one", "two", "three")]
    tasks = [asyncio.create_task(work.run()) for work in works]
    await works[0].entered.wait()
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert "a" in locks
    works[0].leave.set()
    await works[2].entered.wait()
    works[2].leave.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert log == ["one", "three"]
    assert "a" not in locks


async def test_a_failure_gives_the_lock_back() -> None:
    locks = KeyedLock[str]()
    with pytest.raises(ValueError, match="inside"):
        async with locks.holding("a"):
            raise ValueError("inside")
    assert "a" not in locks
    async with locks.holding("a"):
        pass


async def test_a_free_key_is_taken_without_a_turn_of_the_loop() -> None:
    locks = KeyedLock[str]()
    coroutine = locks.holding("a").__aenter__()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert "a" in locks
