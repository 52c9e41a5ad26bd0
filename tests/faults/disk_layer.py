"""Disk calls of this process below some directories: counted, and failed where a rule says so.

Owns the stand-ins for the calls of ``os`` that the store makes, for hole punching, and for the catalogue's database.
Must not decide which call is to fail. Calls on other files go through untouched.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
import pytest

from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.object import file as object_file


class Call(NamedTuple):
    """One disk call, about to be made."""

    name: str
    path: str
    """Below the directory of its volume."""
    volume: int
    arguments: tuple[Any, ...]

    @property
    def writes(self) -> bool:
        """Whether it changes anything on the disk."""
        if self.name == "open":
            flags = int(self.arguments[1])
            return bool(flags & os.O_CREAT) and not flags & os.O_EXCL
        return self.name not in ("pread", "preadv", "sendfile", "listdir", "row")


Rule = Callable[[Call], int]
"""The errno that a call fails with; 0: it works."""

_BY_PATH = ("open", "rename", "replace", "unlink", "mkdir", "listdir")
_BY_DESCRIPTOR = ("pwrite", "write", "pread", "preadv", "ftruncate", "fdatasync", "fsync")
_SQLITE = {
    errno.ENOSPC: (sqlite3.SQLITE_FULL, "SQLITE_FULL"),
    errno.EROFS: (sqlite3.SQLITE_READONLY, "SQLITE_READONLY"),
}


def works(_call: Call) -> int:
    """The rule of a healthy disk."""
    return 0


class DiskLayer:
    """Stands between the store and the disk while ``installed``; ``rule`` may be replaced at any time."""

    def __init__(self, *volumes: Path) -> None:
        self.rule: Rule = works
        self.made: Counter[str] = Counter()
        """Calls by name, failed ones included."""
        self.failed = 0
        self._roots = [str(volume.resolve()) for volume in volumes]
        self._lock = threading.Lock()

    @contextmanager
    def installed(self) -> Iterator[DiskLayer]:
        """Put every stand-in in place, for all threads."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _BY_PATH:
                patch.setattr(os, name, self._by_path(name, getattr(os, name)))
            for name in _BY_DESCRIPTOR:
                patch.setattr(os, name, self._by_descriptor(name, getattr(os, name)))
            patch.setattr(os, "sendfile", self._sendfile(os.sendfile))
            patch.setattr(object_file, "_libc", _Puncher(self, object_file._libc))
            patch.setattr(Catalogue, "_apply", self._apply(Catalogue._apply))
            patch.setattr(diskcache.Cache, "get", self._row(diskcache.Cache.get))
            yield self

    def ask(self, name: str, path: str | int, *arguments: Any) -> int:
        """The errno for a call about to be made; 0 too for what is not below a volume."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return 0
        volume = next((i for i, root in enumerate(self._roots) if path == root or path.startswith(f"{root}/")), None)
        if volume is None:
            return 0
        place = path[len(self._roots[volume]) + 1 :].removesuffix(" (deleted)")
        with self._lock:
            self.made[name] += 1
            number = self.rule(Call(name, place, volume, (path, *arguments)))
            self.failed += number != 0
        return number

    def _by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, int):
                number = self.ask(name, path, *arguments)
            else:
                number = 0 if options.get("dir_fd") is not None else self.ask(name, os.fspath(path), *arguments)
            if number:
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **options)

        return call

    def _by_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int, *arguments: Any) -> Any:
            if number := self.ask(name, fd, *arguments):
                raise OSError(number, os.strerror(number))
            return real(fd, *arguments)

        return call

    def _sendfile(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(out: int, fd: int, offset: int, count: int) -> int:
            if number := self.ask("sendfile", fd, offset, count):
                raise OSError(number, os.strerror(number))
            return real(out, fd, offset, count)

        return call

    def _apply(self, real: Callable[..., None]) -> Callable[..., None]:
        def apply(catalogue: Catalogue, batch: Any) -> None:
            self._sqlite("rows", catalogue._directory)
            real(catalogue, batch)

        return apply

    def _row(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def get(cache: Any, *arguments: Any, **options: Any) -> Any:
            self._sqlite("row", str(cache.directory))
            return real(cache, *arguments, **options)

        return get

    def _sqlite(self, name: str, directory: str) -> None:
        if number := self.ask(name, directory):
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode, error.sqlite_errorname = _SQLITE.get(number, (sqlite3.SQLITE_IOERR, "SQLITE_IOERR"))
            raise error


class _Puncher:
    """Stands in for the C library where holes are punched."""

    def __init__(self, layer: DiskLayer, real: Any) -> None:
        self._layer = layer
        self._real = real

    def fallocate(self, fd: int, mode: int, start: int, length: int) -> int:
        """See fallocate(2)."""
        if number := self._layer.ask("punch", fd, start, length):
            ctypes.set_errno(number)
            return -1
        result = self._real.fallocate(fd, mode, start, length)
        return int(result)


class NthCall:
    """A rule by which one call fails, the ``number``-th from 1 on; the 256 object directories count as one."""

    def __init__(self, number: int, error: int) -> None:
        self.made = 0
        self.failed: Call | None = None
        self._number = number
        self._error = error

    def __call__(self, call: Call) -> int:
        """See ``Rule``."""
        if call.name in ("mkdir", "listdir") and call.path.startswith("objects/") and call.path != "objects/00":
            return 0
        self.made += 1
        if self.made != self._number:
            return 0
        self.failed = call
        return self._error
