"""The catalogue: queued writes are seen at once, and rows survive."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
from tests.support.catalogue import Gate, oid, record, sql
from tests.support.stored import open_descriptors


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


@pytest.fixture
def catalogue(directory: Path) -> Iterator[Catalogue]:
    opened = Catalogue(str(directory))
    yield opened
    opened.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


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


async def test_queued_writes_are_seen_before_and_while_they_are_written(gate: Gate, catalogue: Catalogue) -> None:
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


async def test_many_writes_go_in_few_transactions(gate: Gate, catalogue: Catalogue) -> None:
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
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
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


async def test_sums_hold_what_is_queued_and_not_written_yet(gate: Gate, catalogue: Catalogue) -> None:
    catalogue.put(oid(1), record(5))
    catalogue.put(oid(2), record(7))
    await catalogue.flush()
    gate.open.clear()
    catalogue.delete(oid(1))
    catalogue.put(oid(2), record(8))
    catalogue.put(oid(3), record(9))
    catalogue.put(oid(4), record(1))
    assert (len(catalogue), catalogue.stored_bytes_total()) == (3, 18)
    gate.open.set()
    await catalogue.flush()
    assert (len(catalogue), catalogue.stored_bytes_total()) == (3, 18)


async def test_a_row_whose_sum_contradicts_its_record_is_skipped(catalogue: Catalogue, directory: Path) -> None:
    catalogue.put(oid(1), record(5))
    catalogue.put(oid(2), record(7))
    await catalogue.flush()
    sql(directory, "UPDATE Cache SET tag = 6 WHERE tag = 5")
    assert list(catalogue.iterate()) == [[(oid(2), record(7))]]
    assert catalogue.bad_rows == 1


async def test_the_database_deletes_no_row_by_itself_writes_at_no_read_and_maps_no_file(
    catalogue: Catalogue, directory: Path
) -> None:
    catalogue.put(oid(1), record(5))
    await catalogue.flush()
    assert catalogue.get(oid(1)) == record(5)
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        known = dict(connection.execute("SELECT key, value FROM Settings"))
    wanted = {"eviction_policy": "none", "cull_limit": 0, "size_limit": 1 << 62, "statistics": 0, "tag_index": 0}
    wanted |= {"hits": 0, "misses": 0, "disk_min_file_size": 1 << 62}
    pragmas = {"journal_mode": "wal", "synchronous": 1, "mmap_size": 0, "auto_vacuum": 0, "cache_size": 4096}
    wanted |= {f"sqlite_{name}": value for name, value in pragmas.items()}
    assert {name: known[name] for name in wanted} == wanted


def test_the_thread_that_opens_it_keeps_no_connection(directory: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(int).result()
        before = open_descriptors()
        executor.submit(Catalogue, str(directory)).result().close()
        assert open_descriptors() == before
