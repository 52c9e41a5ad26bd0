"""The rest of a head that began while another request was answered is never taken for a head of its own."""

from __future__ import annotations

import pytest

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, Ground

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_rest_of_a_head_is_not_learned_for_other_clients(ground: Ground) -> None:
    bodies = [blob(seed, 5_000) for seed in (601, 602)]
    for body in bodies:
        path, cold = ground.add(body), ground.add(b"cold")
        assert (await ground.get(path)).body == body
        gate = ground.origin.gate(cold)
        async with RawClient(*ground.node.content) as client:
            head = client.head("GET", path, (("Range", "bytes=7-20"),), host=HOST)
            at = head.index(b"-20")
            await client.send(client.head("GET", cold, host=HOST) + head[:at])
            await gate.reached()
            gate.open()
            assert (await client.finish(await client.receive_head())).body == b"cold"
            await ground.node.wait_answered(cold)
            await client.send(head[at:])
            answer = await client.finish(await client.receive_head())
            assert (answer.status, answer.body) == (206, body[7:21])
