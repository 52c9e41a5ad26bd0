"""Nothing planted in the catalogue's database is unpickled, opened or deleted."""

from __future__ import annotations

import errno
import io
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.catalogue.strict_disk import StrictDisk, translated

EXECUTED: list[str] = []
GOOD = "a" * 32
PLANTED = "b" * 32


def execute(text: str) -> str:
    EXECUTED.append(text)
    return text


class Bomb:
    """Calls ``execute`` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return execute, ("boom",)


BOMB = pickle.dumps(Bomb())


@pytest.fixture
def disk(tmp_path: Path) -> StrictDisk:
    return StrictDisk(str(tmp_path), min_file_size=0)


@pytest.fixture(autouse=True)
def nothing_was_executed() -> Iterator[None]:
    EXECUTED.clear()
    yield
    assert EXECUTED == []


def test_the_bomb_works_where_diskcache_is_used_as_it_comes(tmp_path: Path) -> None:
    assert diskcache.Disk(str(tmp_path)).fetch(4, None, BOMB, False) == "boom"
    assert EXECUTED == ["boom"]
    EXECUTED.clear()


@pytest.mark.parametrize("mode", [0, 2, 3, 4, 5, None, "1", 1.0, True])
@pytest.mark.parametrize("value", [BOMB, None, "text"])
@pytest.mark.parametrize("filename", [None, "bomb.val"])
def test_no_mode_but_raw_is_fetched(disk: StrictDisk, mode: object, value: object, filename: str | None) -> None:
    Path(disk._directory, "bomb.val").write_bytes(BOMB)
    with pytest.raises(CorruptObject):
        disk.fetch(mode, filename, value, False)


@pytest.mark.parametrize(
    ("filename", "value", "read"),
    [("bomb.val", b"x", False), (None, "text", False), (None, 7, False), (None, None, False), (None, b"x", True)],
)
def test_raw_rows_hold_bytes_and_nothing_else(disk: StrictDisk, filename: object, value: object, read: bool) -> None:
    with pytest.raises(CorruptObject):
        disk.fetch(1, filename, value, read)
    assert disk.fetch(1, None, b"x", False) == b"x"


@pytest.mark.parametrize(("key", "raw"), [(BOMB, 0), (BOMB, 1), ("k", 0), ("k", None), ("k", "1"), ("k", 2), (7, 1)])
def test_keys_that_are_not_plain_text_are_refused(disk: StrictDisk, key: object, raw: object) -> None:
    with pytest.raises(CorruptObject):
        disk.get(key, raw)
    assert disk.get("k", 1) == "k"


@pytest.mark.parametrize("key", [b"k", 7, 7.0, None, ("k",), Bomb()])
def test_only_text_becomes_a_key(disk: StrictDisk, key: object) -> None:
    with pytest.raises(TypeError):
        disk.put(key)
    with pytest.raises(TypeError):
        disk.hash(key)


@pytest.mark.parametrize(
    ("value", "read"),
    [("text", False), (7, False), (None, False), (Bomb(), False), (bytearray(b"x"), False), (b"x", True)],
)
def test_only_bytes_become_a_value(disk: StrictDisk, value: object, read: bool) -> None:
    with pytest.raises(TypeError):
        disk.store(value, read)


def test_value_from_a_reader_is_refused(disk: StrictDisk) -> None:
    with pytest.raises(TypeError):
        disk.store(io.BytesIO(b"x"), True)


def test_large_value_stays_in_the_database(disk: StrictDisk, tmp_path: Path) -> None:
    value = b"x" * 1_000_000
    assert disk.store(value, False, key="k") == (0, 1, None, memoryview(value))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        disk.filename("k", value)


# -- rows planted in a real catalogue -------------------------------------------------------------------------------


async def make(directory: Path) -> None:
    catalogue = Catalogue(str(directory))
    catalogue.put(GOOD, CatalogueRecord(10, 5, True, "s"))
    await catalogue.flush()
    catalogue.close()


def plant(directory: Path, **columns: object) -> None:
    row = {"key": PLANTED, "raw": 1, "mode": 1, "tag": 1000, "value": BOMB} | columns
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO Cache ({names}) VALUES ({marks})", tuple(row.values()))


SOUND = CatalogueRecord(10, 1000, True, "s").encode()
ROWS = [
    pytest.param({"mode": 4}, id="pickled value"),
    pytest.param({"mode": 4, "value": None, "filename": "bomb.val"}, id="pickled file"),
    pytest.param({"mode": 2, "value": None, "filename": "../victim"}, id="binary file above"),
    pytest.param({"mode": 3, "value": None, "filename": "../victim"}, id="text file above"),
    pytest.param({"raw": 0, "key": BOMB}, id="pickled key"),
    pytest.param({"raw": 0, "key": BOMB, "mode": 4}, id="pickled key and value"),
    pytest.param({"filename": "../victim", "value": SOUND}, id="sound value with a file name"),
    pytest.param({"value": "text"}, id="text value"),
    pytest.param({"value": 7}, id="number"),
    pytest.param({"value": BOMB}, id="bytes that are no record"),
    pytest.param({"value": SOUND, "tag": 999}, id="tag that differs from the record"),
    pytest.param({"value": SOUND, "tag": "text"}, id="tag that is no number"),
    pytest.param({"value": SOUND, "tag": -5}, id="negative tag"),
    pytest.param({"value": SOUND, "key": "../../../etc/passwd"}, id="path as key"),
    pytest.param({"value": SOUND, "key": b"b" * 32}, id="bytes as key"),
    pytest.param({"value": SOUND, "key": 7}, id="number as key"),
    pytest.param({"value": SOUND, "expire_time": 9e12}, id="row that would expire"),
]


@pytest.mark.parametrize("columns", ROWS)
async def test_planted_row_is_never_executed_and_never_walked(tmp_path: Path, columns: dict[str, object]) -> None:
    directory = tmp_path / "catalogue"
    await make(directory)
    (directory / "bomb.val").write_bytes(BOMB)
    (tmp_path / "victim").write_bytes(BOMB)
    plant(directory, **columns)
    catalogue = Catalogue(str(directory))
    assert not catalogue.rebuilt
    assert list(catalogue.iterate()) == [[(GOOD, CatalogueRecord(10, 5, True, "s"))]]
    assert catalogue.bad_rows == 1
    if columns.get("tag") != 999 and columns.get("key") != "../../../etc/passwd" and "mode" in columns:
        assert catalogue.stored_bytes_total() == 5
    catalogue.close()


@pytest.mark.parametrize("columns", [row.values[0] for row in ROWS[:4] + ROWS[6:10]])
async def test_planted_value_is_corrupt_when_asked_for(tmp_path: Path, columns: dict[str, object]) -> None:
    directory = tmp_path / "catalogue"
    await make(directory)
    (directory / "bomb.val").write_bytes(BOMB)
    (tmp_path / "victim").write_bytes(BOMB)
    plant(directory, **columns)
    catalogue = Catalogue(str(directory))
    with pytest.raises(CorruptObject):
        catalogue.get(PLANTED)
    assert catalogue.get(GOOD) is not None
    catalogue.close()


@pytest.mark.parametrize("overwrite", [True, False])
async def test_replacing_a_planted_row_deletes_no_file(tmp_path: Path, overwrite: bool) -> None:
    directory = tmp_path / "catalogue"
    await make(directory)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    plant(directory, mode=2, value=None, filename="../victim")
    catalogue = Catalogue(str(directory))
    if overwrite:
        catalogue.put(PLANTED, CatalogueRecord(1, 1, True, "s"))
    else:
        catalogue.delete(PLANTED)
    await catalogue.flush()
    assert catalogue.get(PLANTED) == (CatalogueRecord(1, 1, True, "s") if overwrite else None)
    assert victim.read_bytes() == b"precious"
    catalogue.close()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (sqlite3.SQLITE_FULL, errno.ENOSPC),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO),
        (sqlite3.SQLITE_READONLY_DBMOVED, errno.EROFS),
        (sqlite3.SQLITE_BUSY, errno.EBUSY),
        (sqlite3.SQLITE_LOCKED, errno.EBUSY),
        (sqlite3.SQLITE_CANTOPEN, errno.EACCES),
        (sqlite3.SQLITE_NOMEM, errno.ENOMEM),
        (sqlite3.SQLITE_MISUSE, None),
        (None, None),
    ],
)
def test_an_error_of_the_database_says_what_the_drive_has_said(code: int | None, number: int | None) -> None:
    error = sqlite3.OperationalError("failed")
    if code is not None:
        error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_NAME"
    told = translated(error)
    assert isinstance(told, DiskError)
    assert (told.errno, "SQLITE_NAME" in str(told)) == (number, code is not None)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.SQLITE_NOTADB])
def test_a_damaged_database_is_no_failure_of_its_drive(code: int) -> None:
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = code
    assert isinstance(translated(error), CorruptObject)


def test_what_hides_behind_a_failed_rollback_is_the_reason() -> None:
    error, reason = sqlite3.OperationalError("no transaction"), OSError(errno.ENOSPC, "full")
    error.__context__ = reason
    told = translated(error)
    assert isinstance(told, DiskError)
    assert told.errno == errno.ENOSPC
    known = DiskError("known", errno=errno.EIO)
    assert translated(known) is known
    told = translated(diskcache.Timeout("locked"))
    assert isinstance(told, DiskError)
    assert told.errno == errno.EBUSY
