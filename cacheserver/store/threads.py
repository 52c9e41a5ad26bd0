"""What the store's threads do for it, and how the event loop waits for them.

Owns: waiting to the end for work that cannot be stopped half way. Must not know of objects' places or of space.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import TypeVar

from cacheserver.store.object.file import ObjectFile

T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """Let ``work`` end even when the caller is cancelled: its thread cannot be stopped, and must be accounted for."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # the caller has gone; it is seen here
        raise


def write_and_hash(file: ObjectFile, offset: int, data: bytes, digest: hashlib._Hash) -> None:
    """Write body bytes and feed them to the piece's running digest, in one trip."""
    file.write_at(offset, data)
    digest.update(data)
