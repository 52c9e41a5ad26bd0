"""Pieces that fail in the same turn, as on a full disk: the command ends with one of them, and retrieves all."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.fetch.by_pieces import PieceFetch
from cacheserver.fetch.workflow import PieceWorkflow


async def full() -> None:
    raise DiskError("cannot write the output: No space left on device")


async def test_those_behind_the_first_stay_to_be_gathered() -> None:
    download = PieceFetch.__new__(PieceFetch)
    download.workflow, download._noted = PieceWorkflow((), 3), 0
    download._tasks = {asyncio.create_task(full()) for _ in range(3)}
    with pytest.raises(DiskError):
        await download._wait(None)
    assert len(download._tasks) == 2
    await asyncio.gather(*download._tasks, return_exceptions=True)
