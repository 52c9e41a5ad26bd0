"""Where bad pieces go: copies for whoever wants to know what a drive did to them, never for clients.

Owns: one directory of one volume, bounded in files and bytes, the newest kept. Its bytes are no cache content: no
ledger counts them, nothing is served from here. Blocking; may be called from several threads. A copy that cannot be
written is not missed: no call raises because of the disk.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from typing import Final

MOST_FILES: Final = 64
MOST_BYTES: Final = 256 << 20


class Quarantine:
    """The files of one directory, made when the first one comes (0700, files 0600)."""

    def __init__(self, directory: str, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
        self.count = 0
        """Files in it, as far as known."""
        self._directory = directory
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Count what an earlier run left."""
        with self._lock, contextlib.suppress(OSError), self._opened() as directory:
            self.count = len(_listed(directory))

    def keep(self, name: str, data: bytes) -> bool:
        """Keep a copy under a plain file name, in place of an older one, and let the oldest go; False: not kept."""
        if len(data) > self._most_bytes or os.path.basename(name) != name:
            return False
        with self._lock:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._directory, 0o700)
                with self._opened() as directory:
                    self._write(directory, name, data)
                    self.count = self._prune(directory)
            except OSError:
                return False
        return True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _write(self, directory: int, name: str, data: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(fd)

    def _prune(self, directory: int) -> int:
        """Remove the oldest files beyond the bounds; the number that is left."""
        kept_files = kept_bytes = 0
        for _, name, size_bytes in sorted(_listed(directory), reverse=True):
            if kept_files < self._most_files and kept_bytes + size_bytes <= self._most_bytes:
                kept_files += 1
                kept_bytes += size_bytes
            else:
                os.unlink(name, dir_fd=directory)
        return kept_files


def _listed(directory: int) -> list[tuple[int, str, int]]:
    """Modification time in ns, name and size of every regular file."""
    found = []
    for name in os.listdir(directory):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime_ns, name, status.st_size))
    return found
