"""Regular files opened without waiting, and one held by one process at a time.

Owns: the rule that a name leads to a regular file or to an error at once (a FIFO waits for its writer, a device has no
end), and the look at a name after its lock was taken. Blocking only as a drive is. Must not know what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from cacheserver.system.place import reach

_PAUSE_S = 0.05
_ALWAYS = os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of the regular file at ``path``. Raises OSError, IsADirectoryError, for anything else.

    With O_NOFOLLOW among ``flags`` a link at ``path`` is an error; see ``place`` for what root follows.
    """
    try:
        with reach(path, follow=not flags & os.O_NOFOLLOW) as place:
            fd, foreign = place.open(flags | _ALWAYS, mode), place.foreign
    except ValueError as exc:
        raise OSError(errno.EINVAL, "no file can have this name", path) from exc
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise OSError(exc.errno, exc.strerror, path) from exc
        raise _irregular(path) from exc
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and not (foreign and found.st_nlink > 1):
        return fd
    os.close(fd)
    if stat.S_ISREG(found.st_mode):
        raise OSError(errno.EPERM, "has other names, which another user could have made", path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise _irregular(path)


def read_regular(path: str, most_bytes: int) -> bytes:
    """The content of the regular file at ``path``. Raises OSError, also where it is longer than ``most_bytes``."""
    with open(open_regular(path), "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"is larger than {most_bytes} bytes", path)
    return data


def hold(path: str, mode: int = 0o666) -> int:
    """A locked descriptor of the file at ``path``, made if need be; it is still the file of that name.

    Another process may finish, and so rename or remove, the file between its opening and its lock. Closing ends the
    lock. Raises BlockingIOError while another process holds it, OSError, also for a file of another user, who could
    write into it at any time.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    while True:
        made = True
        try:
            fd = open_regular(path, flags | os.O_EXCL, mode)
        except FileExistsError:
            made, fd = False, open_regular(path, flags, mode)
        try:
            if not made and os.fstat(fd).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "belongs to another user", path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_named(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


@contextlib.contextmanager
def folder_held(path: str, *, within_s: float) -> Iterator[None]:
    """Hold a folder, so that files in it are changed by one process at a time. Raises BlockingIOError, OSError."""
    with reach(path) as place:
        fd = place.open(os.O_RDONLY | os.O_DIRECTORY)
    end_s = time.monotonic() + within_s
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(fd)


def is_named(fd: int, path: str) -> bool:
    """Whether ``path`` is the name of the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _irregular(path: str) -> OSError:
    return OSError(errno.EINVAL, "is not a regular file", path)
