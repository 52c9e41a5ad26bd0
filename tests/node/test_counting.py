"""What the metrics of a running node count per client, connection and volume."""

from __future__ import annotations

import pytest

from tests.node.test_admin import grown
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, PIECE, Ground, GroundOptions
from tests.support.node import Metrics

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBNETS = '[[subnets]]\nname = "{}"\nnetworks = ["127.0.0.0/8"]\n'
GROUND = GroundOptions(config="[server]\nmax_connections = 4\n" + SUBNETS.format("before"), max_size="8MiB")


def times(metrics: Metrics, name: str) -> tuple[float, float]:
    """Count and sum of a histogram's hits."""
    full = f"cacheserver_{name}_seconds"
    return metrics.total(f"{full}_count", outcome="hit"), metrics.total(f"{full}_sum", outcome="hit")


async def test_a_hit_of_several_turns_has_its_first_byte_before_its_last(ground: Ground) -> None:
    body = blob(881, 5 * PIECE)
    path = ground.add(body)
    assert (await ground.get(path)).complete
    await ground.origin.wait_done(path)
    for _ in range(2):  # the second one goes by the fast lane
        assert (await ground.get(path)).complete
    await ground.node.wait_answered(path, 3)
    before = await ground.node.metrics()
    async with RawClient(*ground.node.content, receive_buffer=4096) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, 1000)
        assert (await ground.get(path, ("Range", "bytes=0-9"))).status == 206
        assert (await client.finish(response)).body == body
    await ground.node.wait_answered(path, 5)
    after = await ground.node.metrics()
    (first_count, first_s), (total_count, total_s) = (
        tuple(new - old for new, old in zip(times(after, name), times(before, name), strict=True))
        for name in ("first_byte", "request_duration")
    )
    assert first_count == total_count == 2
    assert 0 < first_s < total_s


async def test_a_connection_too_many_is_counted(ground: Ground) -> None:
    before = await ground.node.metrics()
    async with (
        RawClient(*ground.node.content) as one,
        RawClient(*ground.node.content) as two,
        RawClient(*ground.node.content) as three,
        RawClient(*ground.node.content) as four,
    ):
        for client in (one, two, three, four):
            assert (await client.request("GET", "/x", host="nobody.example")).status == 403
        async with RawClient(*ground.node.content) as fifth:
            assert await fifth.at_end()
    assert grown(before, await ground.node.metrics(), "cacheserver_connections_refused_total") == 1


async def test_clients_are_counted_by_group_and_a_reload_takes_up_new_ones(ground: Ground) -> None:
    path = ground.add(blob(882, 1000))
    assert (await ground.get(path)).complete
    config = ground.node.config_file.read_text()
    ground.node.config_file.write_text(config.replace('"before"', '"after"'))
    mark = len(ground.node.log)
    ground.node.reload()
    await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
    assert (await ground.get(path)).complete
    await ground.node.wait_answered(path, 2)
    metrics = await ground.node.metrics()
    assert metrics.total("cacheserver_subnet_requests_total", subnet="after", outcome="hit") == 1
    assert metrics.total("cacheserver_subnet_response_bytes_total", subnet="after") == 1000
    assert metrics.total("cacheserver_subnet_requests_total", subnet="before", outcome="miss") >= 1
    assert metrics.total("cacheserver_subnet_requests_total", subnet="other") == 0


async def test_a_reload_takes_up_groups_for_open_connections(ground: Ground) -> None:
    path = ground.add(blob(883, 500))
    async with RawClient(*ground.node.content) as client:
        for _ in range(3):
            assert (await client.request("GET", path, host=HOST)).complete
        config = ground.node.config_file.read_text()
        name = config.partition('name = "')[2].partition('"')[0]
        ground.node.config_file.write_text(config.replace(f'"{name}"', '"open"'))
        mark = len(ground.node.log)
        ground.node.reload()
        await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        for _ in range(3):  # the first is the full path's, the others are the lane's
            assert (await client.request("GET", path, host=HOST)).complete
    metrics = await ground.node.metrics()
    assert metrics.total("cacheserver_subnet_response_bytes_total", subnet="open") == 1500


async def test_what_comes_back_after_its_eviction_counts_for_twice_the_disk(ground: Ground) -> None:
    paths = [ground.add(blob(900 + number, 2 * PIECE)) for number in range(6)]
    before = await ground.node.metrics()
    for path in (*paths, *paths):
        assert (await ground.get(path)).complete
        await ground.origin.wait_done(path)
    after = await ground.node.metrics()
    volume = str(ground.node.cache_dir)
    assert grown(before, after, "cacheserver_evicted_bytes_total", volume=volume, reason="space") >= 2 * PIECE
    assert grown(before, after, "cacheserver_store_ghost_hits_total", volume=volume) >= 1
    came_back = grown(before, after, "cacheserver_store_ghost_hit_bytes_total", volume=volume)
    assert 0 < came_back <= 12 * (PIECE + 4096)
    assert 0 < after.total("cacheserver_store_eviction_age_seconds", volume=volume) < 120
