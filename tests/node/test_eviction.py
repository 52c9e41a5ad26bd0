"""More content than room: stored bytes stay within the capacity, and every answer is right."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.content import blob
from tests.support.ground import PIECE, Ground, GroundOptions, was_hit

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAPACITY = 16 * PIECE
GROUND = GroundOptions(max_size="16MiB", config='[store]\nextent = "4MiB"\n')


async def stored(ground: Ground) -> float:
    """Stored and reserved bytes, checked against the capacity and against the disk."""
    metrics = await ground.node.metrics()
    assert metrics.total("cacheserver_store_capacity_bytes") == CAPACITY
    value = metrics.total("cacheserver_store_bytes")
    assert 0 <= value <= CAPACITY
    return value


def on_disk(ground: Ground) -> int:
    """Bytes that files of the cache occupy, the catalogue's included."""
    total = 0
    for file in ground.node.cache_dir.rglob("*"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


async def test_more_small_objects_than_room_are_all_served_right(ground: Ground) -> None:
    bodies = {ground.add(blob(seed, 700_000)): blob(seed, 700_000) for seed in range(40)}
    for path, body in bodies.items():
        assert (await ground.get(path)).body == body
        await stored(ground)
    assert await stored(ground) > CAPACITY // 2
    assert (await ground.node.metrics()).total("cacheserver_evicted_bytes_total", reason="space") > 0
    for path, body in bodies.items():
        assert (await ground.get(path)).body == body
    await stored(ground)


async def test_what_is_asked_for_again_and_again_stays_during_a_scan(ground: Ground) -> None:
    body = blob(200, 300_000)
    hot = ground.add(body)
    for _ in range(5):
        assert (await ground.get(hot)).body == body
    for seed in range(201, 241):
        path = ground.add(blob(seed, 700_000))
        assert (await ground.get(path)).complete
        if seed % 5 == 0:
            assert (await ground.get(hot)).body == body
    assert was_hit(await ground.get(hot))
    assert len(ground.origin.asked(hot)) <= 2


async def test_an_object_larger_than_the_cache_is_served_right(ground: Ground) -> None:
    body = blob(250, 40 * PIECE + 99)
    path = ground.add(body)
    for _ in range(2):
        response = await ground.get(path)
        assert (response.status, response.complete, response.body == body) == (200, True, True)
        await stored(ground)
    for start in (0, 20 * PIECE, len(body) - 10):
        assert (await ground.get(path, ("Range", f"bytes={start}-{start + 9}"))).body == body[start : start + 10]


async def test_one_pass_over_an_object_larger_than_the_cache_costs_it_about_once(ground: Ground) -> None:
    body = blob(251, 40 * PIECE + 99)
    path = ground.add(body)
    assert (await ground.get(path)).body == body
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) <= len(body) + 8 * PIECE


async def test_many_clients_under_pressure_get_right_bytes_and_the_disk_its_limit(ground: Ground) -> None:
    async def client(seed: int, bodies: dict[str, bytes]) -> None:
        order = random.Random(seed)
        for path in order.sample(list(bodies), 8):
            body = bodies[path]
            start = order.randrange(len(body))
            stop = min(len(body), start + order.randrange(1, 2 * PIECE))
            response = await ground.get(path, ("Range", f"bytes={start}-{stop - 1}"))
            assert (response.status, response.complete, response.body == body[start:stop]) == (206, True, True)

    contents = [blob(seed, 3 * PIECE + seed) for seed in range(300, 312)]
    for number in range(5):
        bodies = {ground.add(body): body for body in contents}
        await asyncio.gather(*(client(100 * seed + number, bodies) for seed in range(6)))
    await stored(ground)
    assert on_disk(ground) <= CAPACITY + 4 * PIECE
