"""A cache directory that an administrator empties beneath a running node: right bytes, a word, and storing again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.ground import HOST, Ground, was_hit
from tests.support.node import running_node
from tests.support.origin import Origin

BODY = blob(93, 300_000)
CONFIG = "[store]\nretry_offline_s = 1\n"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A node whose cache directory the tests may spoil."""
    async with (
        Origin() as origin,
        running_node(
            tmp_path,
            allow=(HOST,),
            connect_to={HOST: origin.address},
            config=CONFIG,
            cache_dir=tmp_path / "cache",
        ) as node,
    ):
        yield Ground(origin, node)


@pytest.mark.parametrize("what", ["objects/*/*", "objects/*", "objects", "*", "."])
async def test_a_cache_that_was_emptied_by_hand_stores_again_within_seconds(
    ground: Ground, tmp_path: Path, what: str
) -> None:
    cache = tmp_path / "cache"
    paths = [ground.add(BODY) for _ in range(4)]
    for path in paths:
        await ground.get(path)
    for name in [cache] if what == "." else list(cache.glob(what)):
        shutil.rmtree(name) if name.is_dir() else name.unlink()

    async def stores() -> bool:
        responses = [await ground.get(path) for path in paths]
        assert [(r.status, r.body == BODY) for r in responses] == [(200, True)] * 4
        return all(map(was_hit, responses)) and len(list((cache / "objects").glob("??/*"))) == 4

    await eventually(stores)
    if what in ("*", "."):
        await ground.node.wait_log(lambda line: line.get("event") == "volume_lost")
        await ground.node.wait_log(lambda line: line.get("event") == "volume_made_anew")
    (volume,) = (await ground.node.status())["volumes"]
    assert (volume["online"], volume["objects"], volume["errors"]) == (True, 4, 0)
    await ground.node.restart()
    assert all([was_hit(await ground.get(path)) for path in paths])


async def test_a_cache_that_another_user_has_taken_is_said_to_be_gone(ground: Ground, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", ground.add(BODY)
    await ground.get(path)
    shutil.rmtree(cache)
    cache.write_text("no directory")

    async def is_gone() -> bool:
        ready = await ground.node.ask_admin("/readyz")
        return ready.status == 503

    await eventually(is_gone)
    assert (await ground.get(path)).body == BODY
    (volume,) = (await ground.node.status())["volumes"]
    assert not volume["online"]
    assert (await ground.node.metrics()).total("cacheserver_store_online") == 0
    cache.unlink()

    async def is_back() -> bool:
        await ground.get(path)
        return was_hit(await ground.get(path))

    await eventually(is_back)
