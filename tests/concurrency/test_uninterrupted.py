"""Work goes on to its end when its caller is cancelled."""

from __future__ import annotations

import asyncio
import gc

import pytest

from cacheserver.concurrency.uninterrupted import to_the_end
from tests.support.stored import settled


async def test_work_gives_its_result_or_its_error() -> None:
    async def good() -> int:
        await asyncio.sleep(0)
        return 7

    async def bad() -> int:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await to_the_end(good()) == 7
    with pytest.raises(KeyError):
        await to_the_end(bad())


async def test_an_error_after_the_caller_was_cancelled_is_not_lost_aloud() -> None:
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
    gate = asyncio.Event()

    async def bad() -> None:
        await gate.wait()
        raise KeyError("x")

    task = asyncio.create_task(to_the_end(bad()))
    await settled()
    task.cancel()
    await settled()
    assert not task.done(), "it waits for the end"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    await settled()
    assert unseen == []
