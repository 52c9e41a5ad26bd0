"""The first process of a container leaves no zombies."""

from __future__ import annotations

import asyncio
import os
import signal

from cacheserver.system.first_process import take_leave_of_orphans
from tests.support.flow import eventually


def child() -> int:
    """A process that ends at once, which nobody waits for."""
    number = os.fork()
    if number == 0:
        os._exit(7)
    return number


def ended_child() -> int:
    """One that has ended already."""
    number = child()
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    return number


def take_leave(number: int) -> None:
    """As a parent does."""
    os.waitpid(number, 0)


async def test_ended_processes_vanish() -> None:
    loop = asyncio.get_running_loop()
    early = ended_child()
    take_leave_of_orphans(process_id=1)
    assert not _exists(early), "it had ended before anybody listened"
    late = child()

    async def gone() -> bool:
        return not _exists(late)

    try:
        await eventually(gone)
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


async def test_any_other_process_leaves_that_to_the_parents() -> None:
    take_leave_of_orphans(process_id=77)
    number = ended_child()
    assert _exists(number)
    take_leave(number)


def _exists(number: int) -> bool:
    return os.path.exists(f"/proc/{number}")
