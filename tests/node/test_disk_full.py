"""A real file system that is full: clients get every byte, and caching comes back with the room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.content import blob
from tests.support.disks import filled_up, tmpfs, why_no_tmpfs
from tests.support.flow import eventually
from tests.support.ground import HOST, PIECE, Ground, was_hit
from tests.support.node import running_node
from tests.support.origin import Origin

BIG = blob(91, 64 * PIECE)
CONFIG = "[store]\nretry_offline_s = 1\n[fill]\npass_memory_s = 0.2\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 16 MiB."""
    if reason := why_no_tmpfs():
        pytest.skip(reason)
    with tmpfs(tmp_path / "disk", "16m") as place:
        yield place


@pytest.fixture
async def ground(tmp_path: Path, small_disk: Path) -> AsyncIterator[Ground]:
    """A node whose limit is far above what its disk holds."""
    async with (
        Origin() as origin,
        running_node(
            tmp_path,
            allow=(HOST,),
            connect_to={HOST: origin.address},
            config=CONFIG,
            max_size="1GiB",
            cache_dir=small_disk / "cache",
        ) as node,
    ):
        yield Ground(origin, node)


async def until_cached(ground: Ground) -> None:
    """Small objects get cached within seconds."""

    async def is_cached() -> bool:
        path = ground.add(blob(92, 50_000))
        for _ in range(2):
            response = await ground.get(path)
            assert (response.status, response.body == blob(92, 50_000)) == (200, True)
        return was_hit(response)

    await eventually(is_cached)


async def test_an_object_larger_than_the_disk_is_served_right(ground: Ground) -> None:
    path = ground.add(BIG)
    for _ in range(2):
        response = await ground.get(path)
        assert (response.status, response.complete, response.body == BIG) == (200, True, True)
    for start in (0, 10 * PIECE + 5, 40 * PIECE, 64 * PIECE - 9):
        stop = min(start + 2 * PIECE, len(BIG))
        ranged = await ground.get(path, ("Range", f"bytes={start}-{stop - 1}"))
        assert (ranged.status, ranged.body == BIG[start:stop]) == (206, True)
    both = await asyncio.gather(*(ground.get(path) for _ in range(3)))
    assert all(each.complete and each.body == BIG for each in both)


async def test_a_full_disk_is_passed_through_and_used_again_once_there_is_room(
    ground: Ground, small_disk: Path
) -> None:
    await until_cached(ground)
    filler = filled_up(small_disk)
    try:
        for seed in range(93, 99):
            path = ground.add(blob(seed, PIECE + 50_000))
            for _ in range(2):
                response = await ground.get(path)
                assert (response.status, response.complete) == (200, True)
                assert response.body == blob(seed, PIECE + 50_000)
        assert (await ground.node.ask_admin("/healthz")).status == 200
    finally:
        filler.unlink()
    await until_cached(ground)
    await ground.node.wait_log(lambda line: line.get("event") == "volume_writable")
    told = [line for line in ground.node.log if line.get("event") in ("volume_full", "volume_writable")]
    assert [line["event"] for line in told] == ["volume_full", "volume_writable"], "once each"
    assert (told[0]["volume"], told[0]["reason"]) == (str(small_disk / "cache"), "No space left on device")
    assert "make room" in told[0]["remedy"]


async def test_small_objects_are_cached_after_a_large_one_has_gone_through(ground: Ground) -> None:
    assert (await ground.get(ground.add(BIG))).body == BIG
    await until_cached(ground)


async def test_a_node_restarts_on_a_full_disk(ground: Ground, small_disk: Path) -> None:
    path = ground.add(blob(99, 3 * PIECE))
    assert (await ground.get(path)).complete
    filler = filled_up(small_disk)
    await ground.node.restart()
    for _ in range(2):
        assert (await ground.get(path)).body == blob(99, 3 * PIECE)
    other = ground.add(blob(100, 2 * PIECE))
    assert (await ground.get(other)).body == blob(100, 2 * PIECE)
    filler.unlink()
    await until_cached(ground)
