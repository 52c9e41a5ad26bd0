"""Whether bytes of an object file are in the page cache, so that sending them cannot stop the event loop.

Owns: the probe and the blocking read that brings cold bytes in. A probe looks at the ends and the middle of a span,
which costs a microsecond; what it misses costs one late answer, not a wrong one. Where the file system does not
support the probe everything counts as resident.
"""

from __future__ import annotations

import errno
import os

_PAGE_BYTES = 4096
_READ_BYTES = 1 << 18
_byte = (bytearray(1),)


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
    """Bring bytes ``[start, stop)`` into memory. Blocks; a failing disk shows when the bytes are sent."""
    try:
        while start < stop:
            got = len(os.pread(fd, min(_READ_BYTES, stop - start), start))
            if not got:
                return
            start += got
    except OSError:
        return
