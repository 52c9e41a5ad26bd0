"""Threads whose disk reads wait until nobody else wants the drive.

Owns: asking the kernel for the idle I/O class, per thread, on Linux. Best effort: where the call or the drive's
scheduler does not know it, the threads are ordinary ones and the scrubber's own pace has to do.
"""

from __future__ import annotations

import ctypes
import platform
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_SYSCALLS: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
"""Number of ioprio_set by machine; the C library has no wrapper for it."""
_WHO_PROCESS: Final = 1
_THIS_THREAD: Final = 0
_IDLE: Final = 3 << 13


def idle_threads(count: int) -> ThreadPoolExecutor:
    """A pool of ``count`` threads in the idle I/O class."""
    return ThreadPoolExecutor(count, thread_name_prefix="scrub", initializer=be_idle)


def be_idle() -> bool:
    """Put the calling thread into the idle I/O class; False where that is not known here."""
    number = _SYSCALLS.get(platform.machine())
    if platform.system() != "Linux" or number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, _THIS_THREAD, _IDLE)
    return result == 0
