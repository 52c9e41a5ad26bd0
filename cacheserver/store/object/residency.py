"""Whether bytes of an object file are in the page cache, so that sending them cannot stop the event loop.

Owns: the probe, and the threads that bring cold bytes in. A probe looks at the ends and the middle of a span, which
costs a microsecond; what it misses costs one late answer, not a wrong one. Where the file system does not support the
probe everything counts as resident.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

_PAGE_BYTES = 4096
_READ_BYTES = 1 << 18
_YIELD = 10
"""By how much the threads are nicer than the rest: on one core they share it with the event loop."""
_byte = (bytearray(1),)
_nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def reading_threads(count: int) -> ThreadPoolExecutor:
    """Threads for ``read_through``; whenever the event loop has something to do, the processor is the loop's."""
    return ThreadPoolExecutor(count, thread_name_prefix="read-ahead", initializer=_be_nice)


def _be_nice() -> None:
    with contextlib.suppress(OSError):
        os.nice(_YIELD)  # of this thread alone, on Linux


def resident(fd: int, start: int, stop: int) -> bool:
    """Whether bytes ``[start, stop)``, not empty, are likely to be in memory."""
    try:
        os.preadv(fd, _byte, stop - 1, os.RWF_NOWAIT)
        if stop - start > _PAGE_BYTES:
            os.preadv(fd, _byte, start, os.RWF_NOWAIT)
            os.preadv(fd, _byte, (start + stop) // 2, os.RWF_NOWAIT)
    except OSError as exc:
        return exc.errno != errno.EAGAIN
    return True


def read_through(fd: int, start: int, stop: int) -> None:
    """Bring bytes ``[start, stop)`` into memory. Blocks; a failing disk shows when the bytes are sent.

    The kernel is told the whole span at once and reads no more than that. Waiting for it by ``sendfile`` to nowhere
    copies nothing, which halves what a cold byte costs the processor.
    """
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)
    try:
        while start < stop and (got := _pass_over(fd, start, stop - start)):
            start += got
    except OSError:
        return


@contextlib.contextmanager
def left_as_it_was(fd: int, start: int, stop: int) -> Iterator[None]:
    """Take bytes that were not in memory out of it again: a walk over the disk must not displace what is hot."""
    was_cold = not resident(fd, start, start + 1)
    try:
        yield
    finally:
        if was_cold:
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)


def _pass_over(fd: int, start: int, length: int) -> int:
    """Wait for up to ``length`` bytes; how many there were."""
    try:
        return os.sendfile(_nowhere, fd, start, length)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        return len(os.pread(fd, min(_READ_BYTES, length), start))  # a file system that knows no splice
