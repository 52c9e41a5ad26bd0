"""Blocking calls in daemon threads: outcomes come back, and a call that hangs holds no caller."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from cacheserver.concurrency.daemon_thread import in_thread


async def test_blocking_call_that_never_ends_holds_nobody() -> None:
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(release.wait, 30)
    assert time.monotonic() - began < 5
    release.set()


async def test_errors_of_a_thread_come_back() -> None:
    with pytest.raises(FileNotFoundError):
        await in_thread(os.stat, "/nonexistent")
