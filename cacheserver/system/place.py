"""The way to a name, one folder after the other: a command of root goes nowhere that another user could have led it.

Owns: which symbolic links are followed. For root that is none below a folder that another user can change: such a
link may name any file of the system. Other users follow every link, as they can reach nothing that is not theirs.
Blocking. Must not know what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS: Final = 40


class Place:
    """``name`` in the folder that the descriptor ``folder`` holds; as a context it closes that.

    ``foreign``: this is root, and another user can change a folder on the way.
    """

    def __init__(self, folder: int, name: str, *, foreign: bool, through: bool = False) -> None:
        self.folder = folder
        self.name = name
        self.foreign = foreign
        self._no_follow = 0 if through else os.O_NOFOLLOW

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Close the folder."""
        os.close(self.folder)

    def open(self, flags: int, mode: int = 0o600) -> int:
        """A descriptor of what has the name now. Raises OSError, also for a link."""
        return os.open(self.name, flags | self._no_follow | os.O_CLOEXEC, mode, dir_fd=self.folder)

    def owner(self) -> tuple[int, int]:
        """User and group that a file of this name has; those of the folder where there is none, or it is foreign."""
        if not self.foreign and (found := _status(self.name, self.folder)) is not None:
            return found.st_uid, found.st_gid
        folder = os.fstat(self.folder)
        return folder.st_uid, folder.st_gid

    def sync(self) -> None:
        """Have the names in the folder survive a power cut. Raises OSError."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def reach(path: str, *, follow: bool = True, make: bool = False) -> Place:
    """The place that ``path`` names. ``follow``: where its last part is a link, the place that this leads to.

    ``make`` makes missing folders, for their owner alone. Raises OSError that names ``path``, ELOOP for a link that is
    not followed; ValueError where no file can have this name.
    """
    way = _Way(path)
    try:
        return way.walk(follow=follow, make=make)
    except OSError as exc:
        os.close(way.folder)
        raise OSError(exc.errno, exc.strerror, path) from exc
    except BaseException:
        os.close(way.folder)
        raise


def rename(source: str, target: str) -> None:
    """Give the file ``source`` the name ``target``, in the place of what has it. Raises OSError."""
    with reach(source, follow=False) as old, reach(target, follow=False) as new:
        os.replace(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)


def remove(path: str) -> None:
    """Remove the name ``path``. Raises OSError."""
    with reach(path, follow=False) as place:
        os.unlink(place.name, dir_fd=place.folder)


class _Way:
    """The folder reached so far, and what is left to walk."""

    def __init__(self, path: str) -> None:
        self._left = _parts(path)
        self._links = 0
        self._foreign = False
        self.folder = os.open("/" if path.startswith("/") else ".", _STEP)
        self._look()

    def walk(self, *, follow: bool, make: bool) -> Place:
        while True:
            name = self._left.pop(0)
            last = not self._left
            found = _status(name, self.folder)
            through = False
            if found is not None and stat.S_ISLNK(found.st_mode) and (follow or not last):
                self._refuse_foreign(found)
                through = _is_of_proc(found)
                if not through:
                    self._turn(os.readlink(name, dir_fd=self.folder))
                    continue
            if last:
                return Place(self.folder, name, foreign=self._foreign, through=through)
            if found is None and make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self.folder)
            self._enter(name, 0 if through else os.O_NOFOLLOW, self.folder)

    def _refuse_foreign(self, link: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if self._foreign or (os.geteuid() == 0 and link.st_uid != 0):
            raise OSError(errno.ELOOP, "another user could have made the link on this way, which root does not follow")

    def _turn(self, target: str) -> None:
        self._left = _parts(target) + self._left
        if target.startswith("/"):
            self._enter("/", 0, None)

    def _enter(self, name: str, flags: int, at: int | None) -> None:
        entered = os.open(name, _STEP | flags, dir_fd=at)
        os.close(self.folder)
        self.folder = entered
        self._look()

    def _look(self) -> None:
        """Another user can change a folder that is theirs, and what has no sticky bit and is open to others."""
        found = os.fstat(self.folder)
        writers = 0o002 if found.st_gid == 0 else 0o022
        open_to_others = found.st_mode & writers and not found.st_mode & stat.S_ISVTX
        if os.geteuid() == 0 and (found.st_uid != 0 or open_to_others):
            self._foreign = True


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")] or ["."]


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_of_proc(link: os.stat_result) -> bool:
    """Whether it is one of the links to open files, which the kernel alone can follow."""
    proc = _status("/proc", -1)
    return proc is not None and proc.st_dev == link.st_dev
