"""Which pages of a file are in memory, and having the kernel forget them; asking brings none in.

The question goes to ``mincore``: a read with ``RWF_NOWAIT`` answers it too, but newer kernels begin to read ahead then.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_ubyte))
_FAILED = ctypes.c_void_p(-1).value


class FilePages:
    """A file of this user, open and mapped for the question alone. Offsets are multiples of a page. OSError."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size
        base = _libc.mmap(None, self._size, mmap.PROT_READ, mmap.MAP_SHARED, self._fd, 0)
        if base == _FAILED:
            os.close(self._fd)
            raise OSError(ctypes.get_errno(), "mmap")
        self._base: int = base

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def settle(self) -> None:
        """Write the file's data to the disk and drop all of it: only clean pages can be dropped."""
        os.fsync(self._fd)
        self.drop(0, self._size)

    def drop(self, start: int, stop: int) -> None:
        """Have the kernel forget pages of bytes ``[start, stop)``; those that something uses stay."""
        os.posix_fadvise(self._fd, start, stop - start, os.POSIX_FADV_DONTNEED)

    def resident(self, start: int, stop: int) -> int:
        """How many pages of bytes ``[start, stop)`` are in memory."""
        count = -(-(stop - start) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * count)()
        if _libc.mincore(self._base + start, stop - start, found):
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(page & 1 for page in found)

    def close(self) -> None:
        """Give mapping and descriptor back."""
        _libc.munmap(self._base, self._size)
        os.close(self._fd)
