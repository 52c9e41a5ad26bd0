"""Which open objects are closed first, and who learns of a full drive."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.core.object_life import Life
from cacheserver.store import open_objects
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume
from tests.support.stored import found, put, representation, running_store, settled

REPS = [representation(f"o{number}") for number in range(5)]


async def stored(directory: Path) -> None:
    """Store all objects; a store that is opened later has none of them open."""
    async with running_store(directory) as store:
        for rep in REPS:
            await put(store, rep)


def open_numbers(store: Store) -> list[int]:
    """Which of the objects are open."""
    return [number for number, rep in enumerate(REPS) if store.peek_quietly(rep.object_id) is not None]


async def test_an_object_that_was_opened_for_a_visit_is_closed_before_others(tmp_path: Path) -> None:
    await stored(tmp_path)
    async with running_store(tmp_path, open_objects=4) as store:
        await found(store, REPS[0])
        with store.visiting(REPS[1].object_id):
            await found(store, REPS[1])
        for rep in REPS[2:]:
            await found(store, rep)
        assert open_numbers(store) == [0, 2, 3, 4]


async def test_a_visit_to_an_open_object_is_a_use_of_it(tmp_path: Path) -> None:
    await stored(tmp_path)
    async with running_store(tmp_path, open_objects=4) as store:
        for rep in REPS[:2]:
            await found(store, rep)
        with store.visiting(REPS[0].object_id):
            await found(store, REPS[0])
        for rep in REPS[2:]:
            await found(store, rep)
        assert open_numbers(store) == [0, 2, 3, 4]


@pytest.mark.parametrize(("code", "is_full"), [(errno.ENOSPC, True), (errno.EIO, False)])
async def test_a_full_drive_is_announced_and_a_failing_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, is_full: bool
) -> None:
    def fails() -> None:
        raise DiskError("write failed", errno=code)

    async with running_store(tmp_path) as store:
        full: list[Volume] = []
        store.notifications.drive_full.append(full.append)
        with pytest.raises(DiskError):
            await store.run(store.volumes[0], fails)
        assert full == [store.volumes[0]] * is_full
        assert "process_limit" not in caplog.text, "no object is closed for that"


async def test_a_process_without_descriptors_closes_some_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lacks() -> None:
        raise DiskError("open failed", errno=errno.EMFILE)

    await stored(tmp_path)
    async with running_store(tmp_path) as store:
        for rep in REPS:
            await found(store, rep)
        (await found(store, REPS[0])).hold()
        for _ in range(3):
            with caplog.at_level(logging.ERROR), pytest.raises(DiskError):
                await store.run(store.volumes[0], lacks)
        assert open_numbers(store) == [0, 4]
        assert caplog.text.count("process_limit") == 1
        assert store.volumes[0].online
        (await found(store, REPS[0])).release()


async def test_an_object_that_is_closed_gives_its_descriptor_back(tmp_path: Path) -> None:
    await stored(tmp_path)
    async with running_store(tmp_path, open_objects=4) as store:
        first = await found(store, REPS[0])
        for rep in REPS[1:]:
            await found(store, rep)
        assert (first.life, first.file.fd) == (Life.CLOSED, -1)
        again = await found(store, REPS[0])
        assert again is not first
        assert again.file.fd >= 0


async def test_a_new_object_is_told_and_its_row_is_written_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_objects, "_ROW_DELAY_S", 0.0)
    async with running_store(tmp_path) as store:
        told: list[object] = []
        store.notifications.created.append(told.append)
        obj = await put(store, REPS[0])
        assert told == [obj]
        await settled()
        assert obj not in store._objects.rows
        await obj.volume.catalogue.flush()
        assert obj.volume.catalogue.get(obj.object_id) == obj.row()


async def test_a_reader_that_leaves_after_the_end_has_no_row_written(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, REPS[0])
    store.settle(obj)
    assert obj not in store._objects.rows, "the catalogue is closed"


async def test_a_row_that_cannot_be_written_keeps_no_other_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        objects = [await put(store, rep) for rep in REPS]
        real = ObjectFile.taken_bytes

        def stale(file: ObjectFile) -> int:
            if file is objects[2].file:
                raise OSError(errno.ESTALE, "stale handle")
            return real(file)

        monkeypatch.setattr(ObjectFile, "taken_bytes", stale)
        store.write_rows()
        rows = [store.volumes[0].catalogue.get(rep.object_id) for rep in REPS]
        assert [row is not None for row in rows] == [True, True, False, True, True]
        assert not any(obj in store._objects.rows for obj in objects)


async def test_no_object_is_closed_before_there_are_too_many(tmp_path: Path) -> None:
    reps = [representation(f"o{number}") for number in range(17)]
    async with running_store(tmp_path, open_objects=16) as store:
        for rep in reps[:16]:
            await put(store, rep)
            store.write_rows()
        assert all(store.peek_quietly(rep.object_id) is not None for rep in reps[:16])
        await put(store, reps[16])
        assert sum(store.peek_quietly(rep.object_id) is None for rep in reps) == 3, "an eighth more than needed"
