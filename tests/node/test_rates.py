"""What is sent counts while it is sent: a rate of a large answer has neither a gap nor a peak."""

from __future__ import annotations

import json

import pytest

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.ground import HOST, PIECE, Ground, GroundOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(max_size="256MiB", config='[[subnets]]\nname = "here"\nnetworks = ["127.0.0.0/8"]\n')
BODY = blob(71, 24 * PIECE)
COUNTERS = ("cacheserver_response_bytes_total", "cacheserver_subnet_response_bytes_total")


async def counted(ground: Ground) -> list[float]:
    metrics = await ground.node.metrics()
    return [metrics.total(name) for name in COUNTERS]


@pytest.mark.parametrize("earlier", [0, 1, 2], ids=["miss", "hit", "hit of the fast lane"])
async def test_bytes_count_while_a_client_reads_slowly_and_once(ground: Ground, earlier: int) -> None:
    assert (await ground.get(ground.add(blob(72, 100)))).complete  # from now on the counters are there
    path = ground.add(BODY)
    for _ in range(earlier):
        assert (await ground.get(path)).complete
    await ground.node.wait_answered(path, earlier)
    before = await counted(ground)
    async with RawClient(*ground.node.content, receive_buffer=4096) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, 2 * PIECE)

        async def counts() -> bool:
            now = await counted(ground)
            return all(2 * PIECE <= count - old < len(BODY) for count, old in zip(now, before, strict=True))

        await eventually(counts)
        overview = json.loads((await ground.node.ask_admin("/api/v1/overview")).body)
        assert overview["traffic"]["response_bytes"] >= before[0] + 2 * PIECE
        assert (await client.finish(response)).body == BODY
    await ground.node.wait_answered(path, earlier + 1)
    assert [now - old for now, old in zip(await counted(ground), before, strict=True)] == [len(BODY)] * 2
