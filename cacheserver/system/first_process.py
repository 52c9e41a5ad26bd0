"""What the first process of a container owes: it takes leave of processes whose parents have gone.

Owns: reaping. The node starts no process itself, so all that it is given are those of health checks and shells.
"""

from __future__ import annotations

import asyncio
import os
import signal


def take_leave_of_orphans(*, process_id: int) -> None:
    """Where this is the first process, have ended ones vanish from now on; else their parents do that."""
    if process_id == 1:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap)
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
