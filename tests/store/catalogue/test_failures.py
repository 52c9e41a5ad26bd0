"""Failures of the catalogue's writer stay contained: kept, counted, tried again, bounded."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.catalogue import batch_writer
from cacheserver.store.catalogue import catalogue as catalogue_module
from cacheserver.store.catalogue.batch_writer import Row
from cacheserver.store.catalogue.catalogue import Catalogue
from tests.support.catalogue import Gate, oid, record


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


def full_disk() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    error.sqlite_errorname = "SQLITE_FULL"
    return error


async def test_failed_batch_is_kept_and_tried_again(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), retry_s=0.01)
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    with pytest.raises(DiskError) as caught:
        await catalogue.flush()
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert catalogue.get(oid(1)) == record(1)
    await catalogue.flush()
    assert catalogue.write_errors == 1
    assert gate.batches == [{oid(1): Row(record(1).encode(), 1)}]
    catalogue.close()


async def test_failed_batch_does_not_overwrite_what_was_queued_meanwhile(
    directory: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_writer, "LINGER_S", 60)  # nothing is written before the flush
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
    catalogue = Catalogue(str(directory), retry_s=0.01)
    gate.open.clear()
    gate.failures.append(full_disk())
    catalogue.put(oid(1), record(1))
    assert await asyncio.to_thread(gate.waiting.wait, 30)
    gate.waiting.clear()
    gate.open.set()
    assert await asyncio.to_thread(gate.waiting.wait, 30)
    catalogue.close()
    assert [list(batch) for batch in gate.batches] == [[oid(1)]]


async def test_a_cancelled_flush_does_not_end_the_writer(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory))
    gate.open.clear()
    catalogue.put(oid(1), record(1))
    flushing = asyncio.ensure_future(catalogue.flush())
    assert await asyncio.to_thread(gate.waiting.wait, 30)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    gate.open.set()
    await catalogue.flush()
    assert len(catalogue) == 1
    catalogue.close()


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
    catalogue = Catalogue(str(directory), retry_s=60)
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


async def test_no_row_is_refused_while_the_disk_is_only_slow(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), max_backlog=2)
    gate.open.clear()
    for number in range(5):
        catalogue.put(oid(number), record(number))
    gate.open.set()
    await catalogue.flush()
    assert len(catalogue) == 5
    catalogue.close()


async def test_rows_are_synced_for_a_flush_and_at_the_end_alone(
    directory: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(catalogue_module, "sync_wal", synced.append)
    catalogue = Catalogue(str(directory), retry_s=60)
    for number in range(2):
        catalogue.put(oid(number), record(number))
        assert await asyncio.to_thread(gate.waiting.wait, 30)
        gate.waiting.clear()
    assert synced == []
    await catalogue.flush()
    assert synced == [str(directory)]
    catalogue.close()
    assert synced == [str(directory)] * 2


async def test_a_backlog_behind_a_damaged_database_names_no_error_of_the_drive(directory: Path, gate: Gate) -> None:
    catalogue = Catalogue(str(directory), retry_s=60, max_backlog=1)
    damaged = sqlite3.DatabaseError("malformed")
    damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    gate.failures.append(damaged)
    catalogue.put(oid(1), record(1))
    with pytest.raises(CorruptObject):
        await catalogue.flush()
    with pytest.raises(DiskError, match="backlog") as caught:
        catalogue.put(oid(2), record(2))
    assert caught.value.errno is None
    catalogue.close()
