"""diskcache without its dangers: text keys and bytes values inside the database, and nothing else.

Owns what may pass between diskcache and its database. diskcache 5.6.3 unpickles rows with ``mode`` 4 and keys with
``raw`` 0 (CVE-2025-69872, also below its JSONDisk), opens and deletes the file that a row's ``filename`` names, ``..``
included, and has no way to switch any of that off. Here every one of these paths raises before anything is read, and
deleting a row never deletes a file. Also owns turning sqlite3's errors into the store's.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

import diskcache

from cacheserver.core.errors import CorruptObject, DiskError, StoreError

NO_FILES_BYTES = 2**62
"""``disk_min_file_size``: above every value, so that diskcache's own code would choose the database too."""
_MODE_RAW = 1
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


class StrictDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """str keys and bytes values, raw; TypeError for a caller's fault, CorruptObject for a row that is neither."""

    def put(self, key: Any) -> tuple[str, bool]:
        """A key on its way to the database. Raises TypeError unless it is a str."""
        if type(key) is not str:
            raise TypeError("catalogue keys are str")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """A key from the database. Raises CorruptObject for ``raw`` 0 and for anything but text."""
        if type(key) is not str or type(raw) not in (int, bool) or raw != 1:
            raise CorruptObject("a catalogue row has a key that is not text")
        return key

    def store(self, value: Any, read: Any, key: Any = None) -> tuple[int, int, None, memoryview]:
        """A value on its way to the database. Raises TypeError unless it is bytes."""
        if type(value) is not bytes or read:
            raise TypeError("catalogue values are bytes")
        return 0, _MODE_RAW, None, memoryview(value)

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        """A value from the database. Raises CorruptObject for every mode but raw, and for any file name."""
        if type(mode) is not int or mode != _MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise CorruptObject("a catalogue row does not hold plain bytes")
        return value

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        """No value has a file. Raises TypeError."""
        raise TypeError("catalogue values have no files")

    def remove(self, file_path: Any) -> None:
        """Nothing: no row has a file, so a name in a row was planted."""


def translated(error: Exception) -> StoreError:
    """The store's error for one of sqlite3 or diskcache; raise it ``from`` the original."""
    root = _root_cause(error)
    if isinstance(root, StoreError):
        return root
    if isinstance(root, diskcache.Timeout):
        return DiskError("the catalogue is locked or cannot be written", errno=errno.EBUSY)
    if isinstance(root, OSError):
        return DiskError("the catalogue's directory failed", errno=root.errno)
    code = getattr(root, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _DAMAGED:
        return CorruptObject("the catalogue's database is damaged")
    name = getattr(root, "sqlite_errorname", type(root).__name__)
    return DiskError(f"the catalogue's database failed: {name}", errno=None if primary is None else _ERRNO.get(primary))


def _root_cause(error: BaseException) -> BaseException:
    """The first error of a chain: after a full disk diskcache's rollback fails as well and hides the reason."""
    while isinstance(error.__context__, (sqlite3.Error, OSError)):
        error = error.__context__
    return error
