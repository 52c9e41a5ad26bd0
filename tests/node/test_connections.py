"""One connection with many requests, malformed ones among them, and clients that close their side early."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import RawClient
from tests.support.ground import HOST, Ground, GroundOptions, running_ground

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("good", [1, 3, 40])
async def test_a_malformed_pipelined_request_does_not_take_the_answers_before_it(ground: Ground, good: int) -> None:
    path = ground.add(b"pipelined")
    async with RawClient(*ground.node.content) as client:
        head = client.head("GET", path, host=HOST)
        await client.send(head * good + b"GET / HTTP/1.1\r\nno colon here\r\n\r\n" + head)
        assert [(await client.receive()).status for _ in range(good + 1)] == [200] * good + [400]
        assert await client.at_end()


async def test_more_pipelined_requests_than_are_queued_are_all_answered_in_order(ground: Ground) -> None:
    paths = [ground.add(b"number %d" % number) for number in range(70)]
    async with RawClient(*ground.node.content) as client:
        await client.send(b"".join(client.head("GET", path, host=HOST) for path in paths))
        assert [(await client.receive()).body for _ in paths] == [b"number %d" % n for n in range(70)]


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("warm", [False, True])
async def test_a_client_that_closes_its_side_at_once_gets_every_answer_it_asked_for(
    ground: Ground, requests: int, warm: bool
) -> None:
    path = ground.add(b"half-closed")
    for _ in range(3 * warm):
        assert (await ground.get(path)).status == 200
    async with RawClient(*ground.node.content) as client:
        await client.send(client.head("GET", path, host=HOST) * requests)
        client.half_close()
        assert [(await client.receive()).body for _ in range(requests)] == [b"half-closed"] * requests
        assert await client.at_end()


@pytest.mark.parametrize("host", ["xn--a", "xn--a.example.test", "xn--a-\x80.example.test"])
async def test_a_target_that_the_framework_cannot_take_apart_is_refused(ground: Ground, host: str) -> None:
    assert (await ground.node.get(f"http://{host}/x", host=HOST)).status in (400, 403)


async def test_a_request_whose_last_byte_comes_with_a_malformed_one_is_answered(ground: Ground) -> None:
    path = ground.add(b"late end")
    async with RawClient(*ground.node.content) as client:
        head = client.head("GET", path, host=HOST)
        await client.send(head + head[:-1])
        assert (await client.receive()).status == 200
        await client.send(b"\nGET / HTTP/1.1\r\nno colon here\r\n\r\n")
        assert [(await client.receive()).status for _ in range(2)] == [200, 400]


async def test_the_end_of_a_head_is_not_taken_for_a_head_of_its_own(ground: Ground) -> None:
    path = ground.add(b"not by half")
    async with RawClient(*ground.node.content) as client:
        head = client.head("GET", path, host=HOST)
        for _ in range(3):
            await client.send(head + head[:4])
            assert (await client.receive()).status == 200
            await client.send(head[4:])
            assert (await client.receive()).status == 200
    async with RawClient(*ground.node.content) as client:
        await client.send(head[4:])
        assert (await client.receive()).status == 400
        assert await client.at_end()


async def test_a_head_that_is_never_finished_behind_a_whole_one_ends_the_connection(tmp_path: Path) -> None:
    options = GroundOptions(config="[server]\nhead_timeout_s = 0.5\nidle_timeout_s = 30.0\n")
    async with running_ground(tmp_path, options) as ground:
        path = ground.add(b"late")
        async with RawClient(*ground.node.content, timeout_s=10.0) as client:
            head = client.head("GET", path, host=HOST)
            await client.send(head + head[:9])
            assert (await client.receive()).status == 200
            assert await client.at_end()
