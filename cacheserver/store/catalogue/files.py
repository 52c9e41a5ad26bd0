"""The catalogue's directory: made private, never a link, and given up when its database is not what it must be.

Owns what happens before diskcache opens the database. Must not read records. diskcache takes settings and PRAGMA names
from the database itself and trusts them; so they are looked at first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Set
from contextlib import closing
from urllib.parse import quote

import diskcache

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.catalogue.strict_disk import translated

DATABASE = "cache.db"
WAL = "cache.db-wal"
BUSY_TIMEOUT_S = 1.0
"""Short, because reads run in the event loop; WAL readers never wait for the writer."""
_FILES = (DATABASE, WAL, "cache.db-shm")
_KNOWN_SETTINGS = frozenset((*diskcache.DEFAULT_SETTINGS, "count", "size", "hits", "misses"))
_INDEXES = frozenset({("index", "Cache_key_raw"), ("index", "Cache_expire_time")})
_TRIGGERS = ("count_insert", "count_delete", "size_insert", "size_update", "size_delete")
_KNOWN_SCHEMA = _INDEXES | {
    ("table", "Cache"),
    ("table", "Settings"),
    ("index", "sqlite_autoindex_Settings_1"),
    *(("trigger", f"Settings_{name}") for name in _TRIGGERS),
}
_COLUMNS = "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value"


def prepare(directory: str, *, thorough: bool) -> bool:
    """Make ``directory`` ready for diskcache; True when a damaged catalogue was moved aside.

    ``thorough``: look at every page, as after any stop that left a WAL, also where it left none. Raises DiskError where
    the directory is a link or not ours to use, or the disk fails.
    """
    try:
        _make_private(directory)
        try:
            _check_database(directory, thorough=thorough)
        except CorruptObject:
            move_aside(directory)
            _make_private(directory)
            return True
    except OSError as exc:
        raise DiskError("the catalogue's directory cannot be used", errno=exc.errno) from exc
    return False


def move_aside(directory: str) -> None:
    """Rename ``directory`` to the first free ``….damaged-<n>``. Raises OSError."""
    number = 1
    while os.path.lexists(target := f"{directory}.damaged-{number}"):
        number += 1
    os.rename(directory, target)


def read_only(directory: str) -> sqlite3.Connection:
    """A connection that cannot write, for any thread. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"file:{quote(os.path.join(directory, DATABASE))}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only = 1")
    return connection


def sync_wal(directory: str) -> None:
    """Bring every committed transaction to the disk. Raises OSError.

    What is not in the WAL any more was synced by the checkpoint that moved it. sqlite keeps no lock on the WAL file
    itself, so that closing a descriptor of it is harmless.
    """
    with contextlib.suppress(FileNotFoundError):  # no connection yet: nothing is outstanding
        _sync(os.path.join(directory, WAL))
    _sync(directory)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_private(directory: str) -> None:
    """Directory 0700 and files 0600 whatever the umask; the database is made empty so that sqlite copies its mode."""
    with contextlib.suppress(FileExistsError):
        os.makedirs(directory, 0o700)
    if stat.S_ISLNK(os.lstat(directory).st_mode):
        raise OSError(errno.ELOOP, "the catalogue's directory is a link")
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(root, 0o700)
        with contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(DATABASE, flags, 0o600, dir_fd=root))
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o600, dir_fd=root)
    finally:
        os.close(root)


def _check_database(directory: str, *, thorough: bool) -> None:
    """Raises CorruptObject for a database that diskcache must not be given, DiskError for a failing disk."""
    paths = [os.path.join(directory, name) for name in _FILES]
    if any(os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode) for path in paths):
        raise CorruptObject("a file of the catalogue is not a plain file")
    unclean = os.path.exists(paths[1]) and os.path.getsize(paths[1]) > 0
    try:
        with closing(sqlite3.connect(paths[0], timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = 0")
            _check_contents(connection, thorough=thorough or unclean)
    except sqlite3.Error as exc:
        raise (CorruptObject("the catalogue's database is damaged") if is_damage(exc) else translated(exc)) from exc


def is_damage(error: Exception) -> bool:
    """Whether an error at opening lies in the database's bytes or shape, not in the disk, a lock or permissions."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CONSTRAINT,
    )


def _check_contents(connection: sqlite3.Connection, *, thorough: bool) -> None:
    """Known tables, known settings, a readable table; every page as well where the last stop was not clean."""
    schema = set(connection.execute("SELECT type, name FROM sqlite_schema"))
    if not schema <= _KNOWN_SCHEMA:
        raise CorruptObject("the catalogue's database has unknown parts")
    if ("table", "Settings") in schema:
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
        if not settings.keys() <= _KNOWN_SETTINGS:
            raise CorruptObject("the catalogue's database has unknown settings")
        if ("table", "Cache") in schema:
            connection.execute(f"SELECT {_COLUMNS} FROM Cache LIMIT 0")
            ((rows, _),) = connection.execute("SELECT COUNT(*), MAX(length(value)) FROM Cache NOT INDEXED")
            if rows != settings.get("count", 0):
                raise CorruptObject("the catalogue's database has another number of rows than it says")
            if thorough:
                _check_indexes(connection, _INDEXES & schema, rows)
    if thorough and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise CorruptObject("the catalogue's database is damaged")


def _check_indexes(connection: sqlite3.Connection, indexes: Set[tuple[str, str]], rows: int) -> None:
    """quick_check does not hold indexes against their table, and integrity_check takes ten times as long as this."""
    for _, index in indexes:
        if connection.execute(f"SELECT COUNT(rowid) FROM Cache INDEXED BY {index}").fetchone() != (rows,):
            raise CorruptObject("the catalogue's database has an index with another number of rows than its table")
