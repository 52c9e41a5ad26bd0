"""Steps that end after their object was purged or their volume was lost: nothing comes back, nothing is kept."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from cacheserver.store.object.file import ObjectFile
from tests.support.stored import (
    PIECE,
    body_of,
    open_descriptors,
    put,
    representation,
    running_store,
    settled,
)

REP = representation()


async def test_a_piece_that_is_committed_after_a_purge_brings_nothing_back(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, (volume,) = await store.create(REP), store.volumes
        with obj.holding():
            reservation, digest = await store.reserve(obj, 0), hashlib.sha256()
            await store.write(obj, 0, body_of(REP)[:PIECE], digest)
            await store.forget(REP.object_id, reason="purged")
            await store.commit(obj, 0, digest.digest(), reservation)
        store.write_rows()
        assert volume.catalogue.get(REP.object_id) is None
        assert (volume.ledger.stored_bytes, volume.ledger.reserved_bytes) == (0, 0)


async def test_a_torn_piece_or_the_end_of_a_fill_after_a_purge_brings_no_row_back(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, (volume,) = await store.create(REP), store.volumes
        with obj.holding(), await store.reserve(obj, 0) as reservation:
            await store.write(obj, 0, body_of(REP)[:100], hashlib.sha256())
            await store.forget(REP.object_id, reason="purged")
            store.leave_torn(obj, 0, reservation)
            store.settle(obj)
            store.drop_piece(obj, 0)
        store.write_rows()
        assert volume.catalogue.get(REP.object_id) is None
        assert (volume.ledger.stored_bytes, volume.ledger.reserved_bytes) == (0, 0)


async def test_a_file_that_was_opened_before_the_loss_of_its_volume_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
    gate, really = threading.Event(), ObjectFile.open

    def slow(path: str) -> ObjectFile | None:
        opened = really(path)
        gate.wait(10)
        return opened

    monkeypatch.setattr(ObjectFile, "open", slow)
    before = open_descriptors()
    async with running_store(tmp_path) as store:
        finding = asyncio.ensure_future(store.find(REP.object_id))
        await settled()
        losing = asyncio.ensure_future(store.lose(store.volumes[0]))
        await settled()
        gate.set()
        assert await finding is None
        await losing
    assert open_descriptors() == before


async def test_what_lies_on_one_volume_is_forgotten_while_another_is_not_open(tmp_path: Path) -> None:
    async with running_store(tmp_path / "one", tmp_path / "two") as store:
        obj = await put(store, REP)
        (other,) = (volume for volume in store.volumes if volume is not obj.volume)
        await store.lose(other)
        assert await store.forget(REP.object_id, reason="purged") is True
        assert await store.forget(REP.object_id, reason="purged") is False


async def test_the_removal_of_an_object_that_is_not_open_is_told(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        told: list[str] = []
        store.notifications.removed.append(told.append)
        await store.forget(REP.object_id, reason="purged")
        assert told == [REP.object_id]
