"""A volume's life while the node runs: tried until it opens, looked at, lost, opened anew; and what is said of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.maintenance.volume_watch import keep
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume
from tests.support.flow import eventually
from tests.support.stored import EXTENT, put, representation, running_store


@asynccontextmanager
async def watched(store: Store) -> AsyncIterator[list[bool]]:
    """Its one volume, seen to; gives, for each time that it was opened, whether every object was known by then."""
    (volume,) = store.volumes
    known: list[bool] = []
    task = asyncio.create_task(
        keep(
            store,
            volume,
            extent_bytes=EXTENT,
            retry_s=0.01,
            on_open=lambda opened: known.append(opened.loaded.is_set()),
            look_every_s=0.01,
        )
    )
    try:
        yield known
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_anew(volume: Volume) -> None:
    """Until it was lost, and all that it has now is known."""

    async def is_so() -> bool:
        return volume.lives == 1 and volume.loaded.is_set()

    await eventually(is_so)


async def test_a_directory_that_is_removed_is_made_anew_and_both_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store, watched(store) as known:
        shutil.rmtree(cache)
        await is_anew(store.volumes[0])
        assert known == [True, False], "pins are taken up before anything can be evicted"
        await put(store, representation())
    said = [name for name in ("volume_lost", "volume_made_anew", "volume_offline") if name in caplog.text]
    assert said == ["volume_lost", "volume_made_anew"]


async def test_a_volume_whose_place_is_taken_is_tried_until_it_can_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"

    async def is_refused() -> bool:
        return "volume_offline" in caplog.text

    async with running_store(cache) as store, watched(store) as known:
        shutil.rmtree(cache)
        cache.write_text("no directory")
        await eventually(is_refused)
        assert "volume_made_anew" not in caplog.text
        assert not store.volumes[0].online
        cache.unlink()
        await is_anew(store.volumes[0])
        assert known == [True, False]
        await put(store, representation())


async def test_a_drive_that_cannot_tell_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    async with running_store(cache) as store:
        inspect, looks = store.inspect, []

        async def failing_twice(volume: Volume) -> str | None:
            looks.append(volume)
            if len(looks) <= 2:
                raise DiskError("inspect failed", errno=5)
            return await inspect(volume)

        monkeypatch.setattr(store, "inspect", failing_twice)
        async with watched(store):

            async def has_looked() -> bool:
                return len(looks) > 3

            await eventually(has_looked)
            assert store.volumes[0].lives == 0, "a drive that fails is not a volume that is lost"
            shutil.rmtree(cache)
            await is_anew(store.volumes[0])
