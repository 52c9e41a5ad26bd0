"""A file replaced as a whole: readers see the old one or the new one, never a part, and no part stays behind.

Owns: writing beside the target, syncing, the exchange of names, the removal of what did not get that far. Blocking.
Must not know what is written.
"""

from __future__ import annotations

import contextlib
import os

from cacheserver.system.place import reach

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def write_atomically(
    path: str,
    data: bytes,
    *,
    mode: int = 0o600,
    durable: bool = False,
    replace: bool = True,
    suffix: str = ".new",
    follow: bool = False,
    give: bool = False,
) -> None:
    """Put ``data`` at ``path`` with ``mode`` less the umask. Raises OSError; nothing has changed then.

    ``durable`` syncs file and folder. Without ``replace`` an existing file is a FileExistsError. ``suffix`` names the
    file beside the target: writers that can meet at one path need different ones. ``follow``: a link at ``path``
    stays, and what it names is replaced. ``give``: the file gets the owner of its predecessor or folder, where this
    user may do that, and exactly ``mode``.
    """
    with reach(path, follow=follow) as place:
        name, folder = place.name, place.folder
        beside = name + suffix
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)  # of an earlier run, or planted
            with open(os.open(beside, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder), "wb") as file:
                file.write(data)
                file.flush()
                if give:
                    os.fchmod(file.fileno(), mode)
                    with contextlib.suppress(PermissionError):
                        os.fchown(file.fileno(), *place.owner())
                if durable:
                    os.fsync(file.fileno())
            if replace:
                os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.link(beside, name, src_dir_fd=folder, dst_dir_fd=folder)  # unlike rename, fails where one is there
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=folder)
        if durable:
            place.sync()


def sync_folder(path: str) -> None:
    """Have the names in a folder survive a power cut; the working directory for an empty path. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
