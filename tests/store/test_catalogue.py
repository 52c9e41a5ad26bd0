"""The catalogue: queued writes are seen at once, rows survive, damage and failures stay contained."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject, DiskError, StoreError
from cacheserver.store import catalogue as catalogue_module
from cacheserver.store.batch_writer import Row
from cacheserver.store.catalogue import Catalogue, CatalogueRecord


def oid(number: int) -> str:
    return f"{number:032x}"


def record(stored_bytes: int, service: str = "windows-update") -> CatalogueRecord:
    return CatalogueRecord(
        length_bytes=stored_bytes * 2, stored_bytes=stored_bytes, complete=stored_bytes % 2 == 0, service=service
    )


def sql(directory: Path, statement: str, *arguments: object) -> None:
    """Change the database behind the catalogue's back."""
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        connection.execute(statement, arguments)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


@pytest.fixture
def catalogue(directory: Path) -> Iterator[Catalogue]:
    opened = Catalogue(str(directory))
    yield opened
    opened.close()


class Gate:
    """Holds the writer in front of its batch, and makes batches fail on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.failures: list[Exception] = []
        self.batches: list[dict[str, Row | None]] = []
        original = Catalogue._apply

        def gated(catalogue: Catalogue, batch: Mapping[str, Row | None]) -> None:
            self.waiting.set()
            assert self.open.wait(30)
            if self.failures:
                raise self.failures.pop(0)
            self.batches.append(dict(batch))
            original(catalogue, batch)

        monkeypatch.setattr(Catalogue, "_apply", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


# -- what a caller sees ---------------------------------------------------------------------------------------------


async def test_flushed_rows_are_there_after_a_restart(directory: Path) -> None:
    catalogue = Catalogue(str(directory))
    full = CatalogueRecord(10, 7, True, "büro", vary=("accept", "accept-language"))
    catalogue.put(oid(1), full)
    catalogue.put(oid(2), record(5))
    catalogue.delete(oid(2))
    await catalogue.flush()
    assert catalogue.get(oid(1)) == full
    catalogue.close()
    again = Catalogue(str(directory))
    assert again.get(oid(1)) == full
    assert again.get(oid(2)) is None
    assert (len(again), again.rebuilt) == (1, False)
    again.close()


def test_close_writes_what_is_queued(directory: Path) -> None:
    catalogue = Catalogue(str(directory))
    for number in range(2500):
        catalogue.put(oid(number), record(number))
    catalogue.close()
    catalogue.close()
    again = Catalogue(str(directory))
    assert len(again) == 2500
    again.close()


async def test_queued_writes_are_seen_before_and_while_they_are_written(catalogue: Catalogue, gate: Gate) -> None:
    catalogue.put(oid(1), record(10))
    catalogue.put(oid(2), record(20))
    await catalogue.flush()
    gate.open.clear()
    gate.waiting.clear()
    catalogue.put(oid(1), record(100))
    catalogue.delete(oid(2))
    catalogue.delete(oid(99))
    flushing = asyncio.ensure_future(catalogue.flush())
    await asyncio.to_thread(gate.waiting.wait, 30)
    catalogue.put(oid(3), record(3))
    assert catalogue.get(oid(1)) == record(100)
    assert catalogue.get(oid(2)) is None
    assert catalogue.get(oid(3)) == record(3)
    assert (len(catalogue), catalogue.stored_bytes_total()) == (2, 103)
    assert not flushing.done()
    gate.open.set()
    await flushing
    await catalogue.flush()
    assert catalogue.get(oid(1)) == record(100)
    assert catalogue.get(oid(2)) is None
    assert (len(catalogue), catalogue.stored_bytes_total()) == (2, 103)


async def test_flush_without_writes_returns(catalogue: Catalogue) -> None:
    await catalogue.flush()
    await catalogue.flush()
    assert catalogue.write_errors == 0


async def test_many_writes_go_in_few_transactions(catalogue: Catalogue, gate: Gate) -> None:
    for number in range(5000):
        catalogue.put(oid(number), record(number))
    await catalogue.flush()
    assert sum(len(batch) for batch in gate.batches) == 5000
    assert len(gate.batches) <= 10


async def test_last_of_several_writes_to_one_id_wins(catalogue: Catalogue) -> None:
    for number in range(50):
        catalogue.put(oid(1), record(number))
        catalogue.delete(oid(2))
        catalogue.put(oid(2), record(number))
    await catalogue.flush()
    assert (catalogue.get(oid(1)), catalogue.get(oid(2)), len(catalogue)) == (record(49), record(49), 2)


async def test_walk_and_sum_cover_every_row_once(catalogue: Catalogue) -> None:
    expected = {oid(number): record(number) for number in range(1000)}
    for object_id, row in expected.items():
        catalogue.put(object_id, row)
    for number in range(0, 1000, 3):
        catalogue.delete(oid(number))
        del expected[oid(number)]
    await catalogue.flush()
    batches = list(catalogue.iterate(batch=64))
    assert max(map(len, batches)) <= 64
    walked = [row for batch in batches for row in batch]
    assert dict(walked) == expected
    assert len(walked) == len(expected) == len(catalogue)
    assert catalogue.stored_bytes_total() == sum(row.stored_bytes for row in expected.values())


async def test_walk_may_be_continued_in_other_threads(catalogue: Catalogue) -> None:
    for number in range(10):
        catalogue.put(oid(number), record(number))
    await catalogue.flush()
    walk = catalogue.iterate(batch=4)
    first = await asyncio.to_thread(next, walk)
    assert sum(len(batch) for batch in [first, *walk]) == 10


@pytest.mark.parametrize("object_id", ["", "../../etc/passwd", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n"])
def test_id_that_is_no_digest_is_refused(catalogue: Catalogue, object_id: str) -> None:
    with pytest.raises(ValueError, match="object id"):
        catalogue.put(object_id, record(1))


async def test_closed_catalogue_says_so(directory: Path) -> None:
    catalogue = Catalogue(str(directory))
    catalogue.close()
    for call in (
        lambda: catalogue.get(oid(1)),
        lambda: catalogue.put(oid(1), record(1)),
        lambda: catalogue.delete(oid(1)),
        lambda: len(catalogue),
        lambda: next(catalogue.iterate()),
    ):
        with pytest.raises(DiskError, match="closed"):
            call()
    with pytest.raises(DiskError, match="closed"):
        await catalogue.flush()


KILLED = """
import asyncio, os, signal, sys
from cacheserver.store.catalogue import Catalogue, CatalogueRecord
async def main():
    catalogue = Catalogue(sys.argv[1])
    for number in range(3000):
        catalogue.put(f"{number:032x}", CatalogueRecord(1, number, True, "s"))
    await catalogue.flush()
    catalogue.put("f" * 32, CatalogueRecord(1, 1, True, "s"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_flushed_rows_survive_a_kill_and_the_catalogue_opens_twice(directory: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, str(directory)], timeout=30, check=False)
    assert child.returncode == -signal.SIGKILL
    assert (directory / "cache.db-wal").stat().st_size > 0
    for _ in range(2):
        catalogue = Catalogue(str(directory))
        assert not catalogue.rebuilt
        assert catalogue.stored_bytes_total() - (catalogue.get("f" * 32) is not None) == sum(range(3000))
        catalogue.close()


# -- failures of the writer -----------------------------------------------------------------------------------------


def full_disk() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    error.sqlite_errorname = "SQLITE_FULL"
    return error


async def test_failed_batch_is_kept_reported_and_tried_again(directory: Path, gate: Gate) -> None:
    heard: list[StoreError] = []
    threads: list[int] = []

    def on_error(error: StoreError) -> None:
        heard.append(error)
        threads.append(threading.get_ident())

    catalogue = Catalogue(str(directory), on_error=on_error, retry_s=0.01)
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    with pytest.raises(DiskError) as caught:
        await catalogue.flush()
    assert caught.value.errno == errno.ENOSPC
    assert catalogue.get(oid(1)) == record(1)
    await catalogue.flush()
    assert (catalogue.write_errors, len(heard), heard[0]) == (1, 1, caught.value)
    assert threads == [threading.get_ident()]
    assert gate.batches == [{oid(1): Row(record(1).encode(), 1)}]
    catalogue.close()


async def test_failed_batch_does_not_overwrite_what_was_queued_meanwhile(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), retry_s=60)
    gate.open.clear()
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    catalogue.put(oid(2), record(2))
    flushing = asyncio.ensure_future(catalogue.flush())
    await asyncio.to_thread(gate.waiting.wait, 30)
    catalogue.put(oid(1), record(10))
    catalogue.delete(oid(2))
    gate.open.set()
    with pytest.raises(DiskError):
        await flushing
    assert (catalogue.get(oid(1)), catalogue.get(oid(2))) == (record(10), None)
    await catalogue.flush()
    assert (catalogue.get(oid(1)), catalogue.get(oid(2)), len(catalogue)) == (record(10), None, 1)
    catalogue.close()


async def test_writer_tries_again_by_itself(directory: Path, gate: Gate) -> None:
    failed = asyncio.Event()
    catalogue = Catalogue(str(directory), on_error=lambda _error: failed.set(), retry_s=0.01)
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    await failed.wait()
    gate.waiting.clear()
    assert await asyncio.to_thread(gate.waiting.wait, 30)
    catalogue.close()
    assert [list(batch) for batch in gate.batches] == [[oid(1)]]


async def test_backlog_is_bounded_while_the_disk_fails(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), retry_s=60, max_backlog=3)
    gate.failures.append(full_disk())
    for number in range(3):
        catalogue.put(oid(number), record(number))
    with pytest.raises(DiskError):
        await catalogue.flush()
    with pytest.raises(DiskError, match="backlog") as caught:
        catalogue.put(oid(3), record(3))
    assert caught.value.errno == errno.ENOSPC
    catalogue.put(oid(0), record(7))
    catalogue.delete(oid(9))
    await catalogue.flush()
    catalogue.put(oid(3), record(3))
    catalogue.close()
    again = Catalogue(str(directory))
    assert {name: row for batch in again.iterate() for name, row in batch} == {
        oid(0): record(7),
        oid(1): record(1),
        oid(2): record(2),
        oid(3): record(3),
    }
    again.close()


def test_error_without_a_loop_is_heard_in_the_writer_and_cannot_end_it(directory: Path, gate: Gate) -> None:
    heard = threading.Event()

    def broken(_error: StoreError) -> None:
        heard.set()
        raise RuntimeError("listener")

    catalogue = Catalogue(str(directory), on_error=broken, retry_s=0.01)
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    assert heard.wait(30)
    catalogue.close()
    assert [list(batch) for batch in gate.batches] == [[oid(1)]]


def test_close_gives_up_after_one_last_try(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), retry_s=60)
    gate.failures.extend([full_disk(), full_disk(), full_disk()])
    catalogue.put(oid(1), record(1))
    catalogue.close()
    assert catalogue.write_errors >= 1
    assert gate.batches == []


async def test_failed_sync_is_never_believed_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_directory: str) -> None:
        raise OSError(errno.EIO, "sync")

    catalogue = Catalogue(str(directory))
    monkeypatch.setattr(catalogue_module, "sync_wal", failing)
    catalogue.put(oid(1), record(1))
    with pytest.raises(DiskError) as caught:
        await catalogue.flush()
    assert caught.value.errno == errno.EIO
    monkeypatch.undo()
    with pytest.raises(DiskError):
        await catalogue.flush()
    assert catalogue.get(oid(1)) == record(1)
    assert catalogue.write_errors == 1
    catalogue.close()


async def test_transaction_that_the_database_refuses_is_rolled_back_and_retried(directory: Path) -> None:
    heard: list[StoreError] = []
    catalogue = Catalogue(str(directory), on_error=heard.append, retry_s=60)
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        catalogue.put(oid(1), record(1))
        with pytest.raises(DiskError) as caught:
            await catalogue.flush()
        assert caught.value.errno == errno.EBUSY
        other.execute("ROLLBACK")
    await catalogue.flush()
    assert len(catalogue) == 1
    catalogue.close()


# -- the directory --------------------------------------------------------------------------------------------------


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
