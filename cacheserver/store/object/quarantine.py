"""Copies of bad pieces, for an operator who examines a drive.

Owns: one directory of one volume, bounded in files and bytes, the newest kept. No ledger counts its bytes; must not
serve them. Blocking; may be called from several threads. No call raises because of the disk.
"""

from __future__ import annotations

import contextlib
import os
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
            with open(fd, "wb") as file:
                file.write(data)
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise

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
    with os.scandir(directory) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.is_file(follow_symlinks=False)]
    return [(status.st_mtime_ns, name, status.st_size) for name, status in files]
