"""Worker processes: begun with the code of this process, and ended for certain.

Owns: the command, its environment, and the wait for the end. Must not know what is said to them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process


async def start_process(fd: int) -> Process:
    """A worker at the other end of socket ``fd``. OSError.

    It looks for modules where this process does, and nowhere else: what lies in the working directory is not run.
    """
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = (sys.executable, "-P", "-m", "cacheserver.workers", str(fd))
    return await asyncio.create_subprocess_exec(*command, pass_fds=(fd,), stdin=asyncio.subprocess.DEVNULL, env=environ)


async def end_process(process: Process, patience_s: float) -> int:
    """The exit code of a process that should end by itself; it is killed when it does not within ``patience_s``."""
    try:
        async with asyncio.timeout(patience_s):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()
