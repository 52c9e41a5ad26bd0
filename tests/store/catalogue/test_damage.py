"""A database whose pages were torn so that rows come out of order: no read of it goes on for ever."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.recovery import recover
from cacheserver.store.stored_object import StoredObject
from tests.support.stored import EXTENT, PIECE, put, representation, running_store, store_over, volume_at

IDS = [f"{number:032x}" for number in range(5)]
RECORD = CatalogueRecord(length_bytes=10, stored_bytes=20, complete=True, service="own")


def tear(database: Path) -> None:
    """Make every row of the only leaf of the table the row 0."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'Cache'")
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
    data = bytearray(database.read_bytes())
    start = (root - 1) * page_bytes
    assert data[start] == 13, "not a leaf"
    cells = int.from_bytes(data[start + 3 : start + 5], "big")
    assert cells
    for cell in range(cells):
        pointer = start + 8 + 2 * cell
        place = start + int.from_bytes(data[pointer : pointer + 2], "big")
        while data[place] & 0x80:  # the length of the payload, of one byte or two
            place += 1
        assert data[place + 1] < 0x80
        data[place + 1] = 0
    database.write_bytes(data)


def filled(directory: Path) -> None:
    catalogue = Catalogue(str(directory))
    for object_id in IDS:
        catalogue.put(object_id, RECORD)
    catalogue.close()


def test_rows_out_of_order_end_the_reading(tmp_path: Path) -> None:
    filled(tmp_path / "catalogue")
    tear(tmp_path / "catalogue" / "cache.db")
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    try:
        assert not catalogue.rebuilt
        with pytest.raises(CorruptObject, match="order"):
            for _ in catalogue.iterate(batch=2):
                pass
    finally:
        catalogue.close()


def test_where_nobody_vouches_for_a_clean_stop_such_a_database_is_moved_aside(tmp_path: Path) -> None:
    filled(tmp_path / "catalogue")
    tear(tmp_path / "catalogue" / "cache.db")
    catalogue = Catalogue(str(tmp_path / "catalogue"), thorough=True)
    try:
        assert catalogue.rebuilt
        assert list(catalogue.iterate()) == []
        assert (tmp_path / "catalogue.damaged-1").is_dir()
    finally:
        catalogue.close()


@pytest.mark.parametrize("clean", [True, False])
async def test_every_object_is_found_again(tmp_path: Path, clean: bool) -> None:
    names = [f"b{number}" for number in range(5)]
    async with running_store(tmp_path, clean=clean) as store:
        for name in names:
            await put(store, representation(name, 2 * PIECE))
    tear(tmp_path / "catalogue" / "cache.db")
    volume = volume_at(tmp_path)
    volume.open()
    assert volume.catalogue.rebuilt is not clean
    store = store_over([volume])
    await recover(store, volume, extent_bytes=EXTENT)
    assert volume.loaded.is_set()
    assert volume.reconciled
    for name in names:
        assert isinstance(await store.find(representation(name).object_id), StoredObject)
    await store.stop(clean=clean)


def empty_index(database: Path, name: str) -> None:
    """Take every entry out of an index that consists of one page."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
    data = bytearray(database.read_bytes())
    start = (root - 1) * page_bytes
    assert data[start] == 10, "not a leaf of an index"
    data[start + 1 : start + 8] = bytes(4) + page_bytes.to_bytes(2, "big") + bytes(1)
    database.write_bytes(data)


@pytest.mark.parametrize("index", ["Cache_key_raw", "Cache_expire_time"])
async def test_an_index_that_lacks_rows_costs_no_object(tmp_path: Path, index: str) -> None:
    names = [f"b{number}" for number in range(5)]
    async with running_store(tmp_path, clean=False) as store:
        for name in names:
            await put(store, representation(name, 2 * PIECE))
        stored_bytes = store.volumes[0].ledger.stored_bytes
    empty_index(tmp_path / "catalogue" / "cache.db", index)
    async with running_store(tmp_path) as store:
        volume = store.volumes[0]
        assert volume.catalogue.rebuilt
        assert volume.ledger.stored_bytes == stored_bytes
        for name in names:
            await store.forget(representation(name).object_id, reason="purged")
        assert volume.ledger.stored_bytes == 0


async def test_a_clean_mark_that_says_nothing_vouches_for_nothing(tmp_path: Path) -> None:
    async with running_store(tmp_path, clean=True) as store:
        for name in ("a", "b"):
            await put(store, representation(name, 2 * PIECE))
        stored_bytes = store.volumes[0].ledger.stored_bytes
    tear(tmp_path / "catalogue" / "cache.db")
    (tmp_path / "clean").write_text("much")
    async with running_store(tmp_path, clean=False) as store:
        assert store.volumes[0].catalogue.rebuilt
        assert store.volumes[0].ledger.stored_bytes == stored_bytes
