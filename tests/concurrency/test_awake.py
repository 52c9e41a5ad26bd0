"""Deadlines by the time in which the loop ran: a standstill is nobody else's fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from cacheserver.concurrency.awake import awake_s, awake_timeout, unwatch, watch

STILL_S = 2.3


@pytest.fixture
async def _watched() -> AsyncIterator[None]:
    watch()
    yield
    unwatch()


async def test_a_timeout_ends_a_block_as_any_other() -> None:
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.02):
            await asyncio.Event().wait()
    assert 0.02 <= asyncio.get_running_loop().time() - began_s < 1
    with pytest.raises(TimeoutError):
        async with awake_timeout(-1):
            await asyncio.Event().wait()
    async with awake_timeout(None), awake_timeout(0.01) as limit:
        limit.lift()
        await asyncio.sleep(0.03)
    with pytest.raises(asyncio.CancelledError):
        async with awake_timeout(9):
            raise asyncio.CancelledError


@pytest.mark.usefixtures("_watched")
async def test_what_came_while_the_loop_stood_still_is_in_time() -> None:
    came = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.2, came.set_result, "bytes")
    began_s = awake_s()
    async with awake_timeout(0.1):
        asyncio.get_running_loop().call_soon(time.sleep, STILL_S)
        assert await came == "bytes"
    assert awake_s() - began_s < 1


@pytest.mark.usefixtures("_watched")
async def test_what_does_not_come_afterwards_either_is_too_late() -> None:
    asyncio.get_running_loop().call_soon(time.sleep, STILL_S)
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.1):
            await asyncio.Event().wait()
