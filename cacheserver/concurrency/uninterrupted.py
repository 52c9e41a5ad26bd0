"""Work that must run to its end although its caller is cancelled, as a call in a thread does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """Let ``work`` end even when the caller is cancelled: its thread cannot be stopped, and must be accounted for."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # retrieved here, as the caller has gone
        raise
