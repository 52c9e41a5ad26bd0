"""The catalogue of one volume: a durable map from object id to a small record, on diskcache.

Owns the database and its settings. Must not touch object files; they describe themselves, so that losing this
database costs a scan and no object. Reads run in the caller's thread (5 to 10 µs each); writes go through one thread
in batches, and reads see them at once.

Settings, each against a default of diskcache that would hurt: ``eviction_policy`` none and ``cull_limit`` 0 (rows
would be deleted silently at 1 GiB), ``statistics`` off (reads would write), ``mmap_size`` 0 (with mmap a failing
drive is a SIGBUS that kills the node; with read calls it is an error that takes one volume offline),
``auto_vacuum`` off (freed pages are used again; moving them costs a write each), ``synchronous`` NORMAL (in WAL mode
a power cut can lose the last batches but never damage the database; ``flush`` syncs), page cache 16 MiB for each of
the two connections (holds all inner pages of several million rows).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing

import diskcache

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.catalogue.batch_writer import MAX_BACKLOG, RETRY_S, BatchWriter, Row, Unqueued
from cacheserver.store.catalogue.files import BUSY_TIMEOUT_S, is_damage, move_aside, prepare, read_only, sync_wal
from cacheserver.store.catalogue.record import MAX_BYTES, CatalogueRecord
from cacheserver.store.catalogue.strict_disk import NO_FILES_BYTES, StrictDisk, translated

_SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "disk_min_file_size": NO_FILES_BYTES,
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 1,
    "sqlite_mmap_size": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 4096,
}
_OBJECT_ID = re.compile(r"[0-9a-f]{32}")
_SOUND = (
    "raw IS 1 AND mode IS 1 AND filename IS NULL AND expire_time IS NULL AND typeof(key) = 'text'"
    f" AND typeof(value) = 'blob' AND typeof(tag) = 'integer' AND tag BETWEEN 0 AND {MAX_BYTES}"
)
_STORED = f"SELECT 0, COALESCE(SUM(tag), 0) FROM Cache NOT INDEXED WHERE {_SOUND}"  # an index may lack rows
_COUNT = "SELECT value, 0 FROM Settings WHERE key = 'count'"
_ONE_TAG = f"SELECT tag FROM Cache WHERE key = ? AND {_SOUND}"
_PAGE = f"SELECT rowid, {_SOUND}, key, value, tag FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"

# "+": the index of expiry times, in which all rows are equal, must not be taken for the one of keys.
_PAGE_BY_ID = (
    "SELECT rowid, 1, key, value, tag FROM Cache"
    f" WHERE key >= ? AND {_SOUND.replace('expire_time', '+expire_time')} AND key NOT GLOB '*[^0-9a-f]*'"
    " ORDER BY key LIMIT ?"
)


class Catalogue:
    """Object id (32 lower-case hex digits) → CatalogueRecord.

    ``get`` belongs to one thread, the event loop's; ``iterate``, ``len`` and ``stored_bytes_total`` may be called from
    any.
    """

    def __init__(
        self, directory: str, *, thorough: bool = False, retry_s: float = RETRY_S, max_backlog: int = MAX_BACKLOG
    ) -> None:
        """Open or make the catalogue in ``directory`` (0700, files 0600); a damaged one is moved aside. Blocking.

        ``thorough``: check every page of the database, as the last stop may not have been clean. Raises DiskError
        where the directory is a link, cannot be used or is locked.
        """
        self._directory = os.path.abspath(directory)
        if os.path.expandvars(os.path.expanduser(self._directory)) != self._directory:
            raise DiskError("the catalogue's directory has a name that diskcache would expand")
        self.rebuilt = prepare(self._directory, thorough=thorough)
        """True: the database was damaged and is new, so that the files must be scanned."""
        self.bad_rows = 0
        """Rows that ``iterate`` has skipped."""
        self._closed = False
        self._cache = self._open_cache()
        self._opened = os.stat(self._database)
        self._cache.close()  # the thread that opens need not be the one that reads
        self._writer = BatchWriter(
            apply=self._apply,
            sync=lambda: sync_wal(self._directory),
            release=lambda: self._cache.close(),
            translate=translated,
            retry_s=retry_s,
            max_backlog=max_backlog,
        )

    @property
    def _database(self) -> str:
        return os.path.join(self._directory, diskcache.core.DBNAME)

    def stands(self) -> bool:
        """Whether the database is still the file that was opened; FileNotFoundError where there is none. Blocking."""
        return os.path.samestat(os.stat(self._database), self._opened)

    def _open_cache(self) -> diskcache.Cache:
        try:
            try:
                return self._new_cache()
            except (sqlite3.Error, ValueError, TypeError, KeyError) as exc:
                if not is_damage(exc):
                    raise
                move_aside(self._directory)
                prepare(self._directory, thorough=False)
                self.rebuilt = True
                return self._new_cache()
        except (sqlite3.Error, OSError) as exc:
            raise translated(exc) from exc

    def _new_cache(self) -> diskcache.Cache:
        return diskcache.Cache(self._directory, timeout=BUSY_TIMEOUT_S, disk=StrictDisk, **_SETTINGS)

    # -- rows -----------------------------------------------------------------------------------------------------

    def get(self, object_id: str) -> CatalogueRecord | None:
        """The record, or None. Raises CorruptObject for a damaged row or database, DiskError for a failing disk."""
        row = self._writer.look_up(object_id)
        if row is None:
            return None
        if not isinstance(row, Unqueued):
            return CatalogueRecord.decode(row.value)
        self._check_open()
        try:
            value = self._cache.get(object_id)
        except (sqlite3.Error, diskcache.Timeout) as exc:
            raise translated(exc) from exc
        return None if value is None else CatalogueRecord.decode(value)

    def put(self, object_id: str, record: CatalogueRecord) -> None:
        """Write a record soon; visible at once. Raises ValueError for what cannot be encoded, DiskError as delete,
        and DiskError while the disk fails and too much waits already."""
        if not _OBJECT_ID.fullmatch(object_id):
            raise ValueError("an object id is 32 lower-case hex digits")
        self._writer.queue(object_id, Row(record.encode(), record.stored_bytes))

    def delete(self, object_id: str) -> None:
        """Delete a record soon; visible at once; unknown ids are fine. Raises DiskError after ``close``."""
        self._writer.queue(object_id, None)

    async def flush(self) -> None:
        """Wait until all that was queued before is on the disk. Raises the error of the try; the rows stay queued."""
        await self._writer.flush()

    def close(self) -> None:
        """Write what is queued in one last try and close the database. Blocking.

        Failures show in ``write_errors``. Again, in another thread, it only gives that thread's connection back: call
        it in the one that reads as well.
        """
        self._writer.close()
        self._closed = True
        self._cache.close()

    # -- sums and walks -------------------------------------------------------------------------------------------

    @property
    def write_errors(self) -> int:
        """Batches and syncs that failed since the start."""
        return self._writer.errors

    def __len__(self) -> int:
        """Number of rows, bad ones included."""
        return self._totals(_COUNT)[0]

    def stored_bytes_total(self) -> int:
        """Sum of ``stored_bytes`` over all sound rows, without decoding them. Raises DiskError, CorruptObject."""
        return self._totals(_STORED)[1]

    def _totals(self, question: str) -> tuple[int, int]:
        """Rows and bytes: the database's answer in one snapshot, corrected by what was queued before it."""
        overlay = self._writer.overlay()
        with self._reader() as reader:
            reader.execute("BEGIN")
            rows, stored_bytes = reader.execute(question).fetchone()
            for object_id, row in overlay.items():
                old = reader.execute(_ONE_TAG, (object_id,)).fetchone()
                rows += (row is not None) - (old is not None)
                stored_bytes += (row.stored_bytes if row else 0) - (old[0] if old else 0)
        return rows, stored_bytes

    def iterate(self, batch: int = 2000) -> Iterator[list[tuple[str, CatalogueRecord]]]:
        """Every sound row of the database, in lists of at most ``batch``; rows still queued may be missing or old.

        Bad rows are skipped and counted in ``bad_rows``. Each list is one short read, so that a slow consumer holds
        up nothing, and each may be asked for in another thread. Raises DiskError, CorruptObject, the latter also
        where pages are damaged so that rows come out of order: reading on would never end.
        """
        last = -(2**63)
        with self._reader() as reader:
            while rows := reader.execute(_PAGE, (last, batch)).fetchall():
                if rows[-1][0] <= last:
                    raise CorruptObject("the rows of the catalogue come out of order")
                last = rows[-1][0]
                if good := self._decoded(rows):
                    yield good

    def page(self, start: str, limit: int = 500) -> tuple[list[tuple[str, CatalogueRecord]], str | None]:
        """At most ``limit`` sound rows in the order of their ids from ``start`` on, and the next page's ``start``.

        None after the last page. Ids stand for a place that stays right across restarts, whatever comes and goes.
        Otherwise as ``iterate``; callable from any thread. Raises DiskError, CorruptObject.
        """
        with self._reader() as reader:
            rows = reader.execute(_PAGE_BY_ID, (start, limit)).fetchall()
        after = rows[-1][2].decode("ascii") + "0" if len(rows) == limit else None
        if after is not None and after <= start:
            raise CorruptObject("the rows of the catalogue come out of order")
        return self._decoded(rows), after

    async def objects(self, executor: Executor, start: str = "") -> AsyncGenerator[tuple[str, CatalogueRecord], None]:
        """Every row of an object, none of a marker, in the order of ids from ``start`` on; raises as ``page``.

        ``executor`` reads page by page.
        """
        at: str | None = start
        while at is not None:
            rows, at = await to_the_end(asyncio.get_running_loop().run_in_executor(executor, self.page, at))
            for object_id, record in rows:
                if not record.vary:
                    yield object_id, record

    def _decoded(self, rows: list[tuple[int, int, bytes, bytes, int]]) -> list[tuple[str, CatalogueRecord]]:
        good = []
        for _, sound, key, value, stored_bytes in rows:
            try:
                object_id = key.decode("ascii") if sound else ""
                record = CatalogueRecord.decode(value if sound else b"")
            except (CorruptObject, UnicodeDecodeError):
                record = None
            if record is None or record.stored_bytes != stored_bytes or not _OBJECT_ID.fullmatch(object_id):
                self.bad_rows += 1
            else:
                good.append((object_id, record))
        return good

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        self._check_open()
        try:
            with closing(read_only(self._directory)) as reader:
                reader.text_factory = bytes
                yield reader
        except sqlite3.Error as exc:
            raise translated(exc) from exc

    def _check_open(self) -> None:
        if self._closed:
            raise DiskError("the catalogue is closed")

    # -- the writer's thread --------------------------------------------------------------------------------------

    def _apply(self, batch: Mapping[str, Row | None]) -> None:
        try:
            with self._cache.transact():
                for object_id, row in batch.items():
                    if row is None:
                        self._cache.delete(object_id)
                    else:
                        self._cache.set(object_id, row.value, tag=row.stored_bytes)
        except BaseException:
            self._cache.close()  # whatever is left of the transaction goes with its connection
            raise
