"""The catalogue's directory is private, and a damaged database is begun anew."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.files import sync_wal
from tests.support.catalogue import oid, record, sql


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.iterdir()]}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
async def test_directory_and_files_are_private_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        catalogue = Catalogue(str(directory))
        catalogue.put(oid(1), record(1))
        await catalogue.flush()
        found = modes(directory)
        catalogue.close()
    finally:
        os.umask(before)
    assert found.pop("catalogue") == 0o700
    assert {"cache.db", "cache.db-wal"} <= found.keys()
    assert set(found.values()) == {0o600}


def test_open_directory_is_closed_to_others(directory: Path) -> None:
    Catalogue(str(directory)).close()
    directory.chmod(0o755)
    (directory / "cache.db").chmod(0o666)
    Catalogue(str(directory)).close()
    assert modes(directory) == {"catalogue": 0o700, "cache.db": 0o600}


def test_directory_that_is_a_link_is_refused(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError) as caught:
        Catalogue(str(directory))
    assert caught.value.errno == errno.ELOOP
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_directory_that_is_a_file_is_refused(directory: Path) -> None:
    directory.write_bytes(b"")
    with pytest.raises(DiskError):
        Catalogue(str(directory))


def test_name_that_would_be_expanded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", "/tmp")
    with pytest.raises(DiskError, match="expand"):
        Catalogue(str(tmp_path / "$ELSEWHERE"))


def test_database_locked_by_another_program_is_a_disk_error_and_stays(directory: Path) -> None:
    Catalogue(str(directory)).close()
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE t (x)")
        with pytest.raises(DiskError) as caught:
            Catalogue(str(directory))
        other.execute("ROLLBACK")
    assert caught.value.errno == errno.EBUSY
    assert not directory.with_name("catalogue.damaged-1").exists()


# -- damage ---------------------------------------------------------------------------------------------------------


async def filled(directory: Path, rows: int = 200) -> None:
    catalogue = Catalogue(str(directory))
    for number in range(rows):
        catalogue.put(oid(number), record(number))
    await catalogue.flush()
    catalogue.close()


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_header(directory: Path) -> None:
    overwrite(directory / "cache.db", 0, b"not a database at all")


def damage_every_page(directory: Path) -> None:
    size = (directory / "cache.db").stat().st_size
    overwrite(directory / "cache.db", 4096, b"\xff" * (size - 4096))


def damage_by_cutting(directory: Path) -> None:
    os.truncate(directory / "cache.db", 4096 * 3 + 100)


def damage_by_a_link(directory: Path) -> None:
    (directory / "cache.db").rename(directory / "real.db")
    (directory / "cache.db").symlink_to("real.db")


def damage_by_another_shape(directory: Path) -> None:
    sql(directory, "ALTER TABLE Cache RENAME COLUMN tag TO label")


def damage_by_a_planted_setting(directory: Path) -> None:
    sql(directory, "INSERT INTO Settings VALUES ('sqlite_query_only = 1; --', 1)")


def damage_by_a_planted_table(directory: Path) -> None:
    sql(directory, "CREATE TABLE extra (x)")


def damage_by_a_wrong_count(directory: Path) -> None:
    sql(directory, "UPDATE Settings SET value = value + 1 WHERE key = 'count'")


def damage_by_no_count(directory: Path) -> None:
    sql(directory, "DELETE FROM Settings WHERE key = 'count'")


@pytest.mark.parametrize(
    "damage",
    [
        damage_header,
        damage_every_page,
        damage_by_cutting,
        damage_by_a_link,
        damage_by_another_shape,
        damage_by_a_planted_setting,
        damage_by_a_planted_table,
        damage_by_a_wrong_count,
        damage_by_no_count,
    ],
)
async def test_damaged_database_is_moved_aside_and_begun_anew(directory: Path, damage: object) -> None:
    await filled(directory)
    assert callable(damage)
    damage(directory)
    directory.with_name("catalogue.damaged-1").mkdir()
    catalogue = Catalogue(str(directory))
    assert catalogue.rebuilt
    assert (directory.with_name("catalogue.damaged-2") / "cache.db").exists()
    assert len(catalogue) == 0
    assert modes(directory)["catalogue"] == 0o700
    catalogue.put(oid(1), record(1))
    await catalogue.flush()
    assert catalogue.get(oid(1)) == record(1)
    catalogue.close()


def test_making_that_was_interrupted_is_continued(directory: Path) -> None:
    directory.mkdir()
    sql(directory, "CREATE TABLE Settings ( key TEXT NOT NULL UNIQUE, value)")
    catalogue = Catalogue(str(directory))
    assert not catalogue.rebuilt
    catalogue.close()


async def test_database_that_breaks_while_open_gives_typed_errors(directory: Path) -> None:
    await filled(directory, rows=3000)
    catalogue = Catalogue(str(directory))
    damage_every_page(directory)
    with pytest.raises(CorruptObject):
        catalogue.get(oid(5))
    with pytest.raises(CorruptObject):
        catalogue.stored_bytes_total()
    with pytest.raises(CorruptObject):
        list(catalogue.iterate())
    catalogue.put(oid(5), record(5))
    with pytest.raises(CorruptObject):
        await catalogue.flush()
    assert catalogue.get(oid(5)) == record(5)
    catalogue.close()


async def test_a_sync_reaches_the_wal_and_the_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    catalogue = Catalogue(str(directory))
    catalogue.put(oid(1), record(1))
    await catalogue.flush()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
        sync_wal(str(directory))
    assert synced == [str(directory / "cache.db-wal"), str(directory)]
    catalogue.close()
