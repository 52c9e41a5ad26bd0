"""A file replaced as a whole: readers see the old one or the new one, never a part, and no part stays behind.

Owns: writing beside the target, syncing, the exchange of names, the removal of what did not get that far. Blocking.
Must not know what is written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomically(
    path: str,
    data: bytes,
    *,
    mode: int = 0o600,
    durable: bool = False,
    replace: bool = True,
    suffix: str = ".new",
    prepare: Callable[[int], None] | None = None,
) -> None:
    """Put ``data`` at ``path`` with ``mode`` less the umask. Raises OSError; nothing has changed then.

    ``durable`` syncs file and folder. Without ``replace`` an existing file is a FileExistsError. ``suffix`` names the
    file beside the target: writers that can meet at one path need different ones. ``prepare`` gets the written file's
    descriptor before the file takes its place.
    """
    beside = path + suffix
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # of an earlier run, or planted
        with open(os.open(beside, _FLAGS, mode), "wb") as file:
            file.write(data)
            file.flush()
            if prepare is not None:
                prepare(file.fileno())
            if durable:
                os.fsync(file.fileno())
        if replace:
            os.replace(beside, path)
        else:
            os.link(beside, path)  # unlike rename, fails where something is there
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)
    if durable:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Have the names in a folder survive a power cut; the working directory for an empty path. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
