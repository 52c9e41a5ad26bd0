"""Connections that the fast lane serves: what changes behind an answer holds for the next request on each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.client import RawClient, Response, fetch
from tests.support.content import Content, blob
from tests.support.ground import FRESH, HOST, PIECE, THIRD_HOST, Ground, GroundOptions, running_ground, was_hit
from tests.support.repeats import lane_answers

BODY = blob(301, 300_000)
CLIENTS = 4


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    config = f'allow = ["{THIRD_HOST}"]\n[server]\nmin_send_rate_bps = 0\n[store]\nextent = "2MiB"\n'
    async with running_ground(tmp_path, GroundOptions(config=config, max_size="32MiB")) as ground:
        yield ground


@asynccontextmanager
async def warm_clients(
    ground: Ground, path: str, *, host: str = HOST, receive_buffer: int | None = None
) -> AsyncIterator[list[RawClient]]:
    """Connections of which each has had its first answer, of ``path``, from the fast lane."""
    for _ in range(2):
        assert (await ground.get(path, host=host)).status == 200
    async with AsyncExitStack() as stack:
        clients = [RawClient(*ground.node.content, receive_buffer=receive_buffer) for _ in range(CLIENTS)]
        for client in clients:
            await stack.enter_async_context(client)
        before = await lane_answers(ground.node)
        for client in clients:
            assert was_hit(await client.request("GET", path, host=host))
        assert await lane_answers(ground.node) == before + CLIENTS
        yield clients


async def get(client: RawClient, path: str, *, host: str = HOST) -> Response:
    return await client.request("GET", path, host=host)


async def reload(ground: Ground, config: str) -> None:
    mark = len(ground.node.log)
    ground.node.config_file.write_text(config)
    ground.node.reload()
    await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)


async def purge(ground: Ground, path: str) -> None:
    body = json.dumps({"url": f"http://{HOST}{path}"}).encode()
    async with RawClient(*ground.node.admin) as client:
        fields = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        await client.send(client.head("POST", "/api/v1/purge", fields) + body)
        assert (await client.receive("POST")).status == 200


@pytest.mark.parametrize("change", ["purge", "generation"])
async def test_a_change_that_has_been_confirmed_holds_for_the_next_request_of_every_client(
    ground: Ground, change: str
) -> None:
    path, new = ground.add(BODY), blob(303, 200_000)
    async with warm_clients(ground, path) as clients:
        ground.origin.add(path, Content(new, headers=FRESH))
        if change == "purge":
            await purge(ground, path)
        else:
            assert (await ground.get(path, ("Cache-Control", "no-cache"))).body == new
        assert {(await get(client, path)).body for client in clients} == {new}


async def test_a_host_that_is_withdrawn_is_refused_on_every_connection(ground: Ground) -> None:
    path = ground.add(BODY)
    async with warm_clients(ground, path, host=THIRD_HOST) as clients:
        await reload(ground, "")
        assert {(await get(client, path, host=THIRD_HOST)).status for client in clients} == {403}


async def test_a_host_that_a_reload_takes_away_during_an_answer_is_not_learned_from_it(ground: Ground) -> None:
    body = blob(311, 8 * PIECE)
    path = ground.add(body)
    assert (await ground.get(path, host=THIRD_HOST)).body == body
    async with RawClient(*ground.node.content, receive_buffer=32_768) as slow:
        running = await slow.start("GET", path, host=THIRD_HOST)
        assert was_hit(running)
        await reload(ground, "")
        assert (await slow.finish(running)).body == body
        assert (await get(slow, path, host=THIRD_HOST)).status == 403


async def test_pipelined_hits_and_misses_are_answered_in_order(ground: Ground) -> None:
    warm, cold = ground.add(BODY), ground.add(blob(302, 5_000))
    async with warm_clients(ground, warm) as clients:
        for client in clients:
            small = client.head("GET", warm, (("Range", "bytes=0-9"),), host=HOST)
            large = client.head("GET", warm, host=HOST)
            await client.send(small + large + client.head("GET", cold, host=HOST) + small)
            bodies = [(await client.receive()).body for _ in range(4)]
            assert bodies == [BODY[:10], BODY, blob(302, 5_000), BODY[:10]]


async def test_one_miss_of_all_clients_is_one_fetch_and_their_hits_go_on(ground: Ground) -> None:
    warm, cold = ground.add(BODY), ground.add(BODY)
    async with warm_clients(ground, warm) as clients:
        answers = await asyncio.gather(*(get(client, cold) for client in clients))
        assert all(answer.body == BODY for answer in answers)
        assert len(ground.origin.asked(cold)) == 1
        answers = await asyncio.gather(*(get(client, warm) for client in clients))
        assert all(was_hit(answer) and answer.body == BODY for answer in answers)


async def test_what_slow_clients_are_being_sent_keeps_its_bytes_while_others_are_evicted(ground: Ground) -> None:
    body = blob(305, 10 * PIECE)
    path = ground.add(body)
    async with warm_clients(ground, path, receive_buffer=32_768) as slow:
        running = [await client.start("GET", path, host=HOST) for client in slow]
        for seed in range(8):
            other = ground.add(blob(400 + seed, 8 * PIECE))
            assert len((await fetch(ground.node.content, other, host=HOST)).body) == 8 * PIECE
        assert (await ground.node.metrics()).total("cacheserver_evicted_bytes_total", reason="space") > 0
        for client, answer in zip(slow, running, strict=True):
            assert (await client.finish(answer)).body == body
    status = await ground.node.status()
    assert all(volume["stored_bytes"] <= volume["capacity_bytes"] for volume in status["volumes"])


async def test_sigterm_lets_answers_of_the_lane_end(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[server]\ndrain_s = 5\n")) as ground:
        body = blob(304, 12 * PIECE)
        path = ground.add(body)
        async with warm_clients(ground, path, receive_buffer=65_536) as clients:
            running = [await client.start("GET", path, host=HOST) for client in clients]
            ended = asyncio.create_task(ground.node.stop())
            for client, answer in zip(clients, running, strict=True):
                assert (await client.finish(answer)).body == body
            assert await ended == 0


async def test_the_access_log_of_both_paths_stays_what_it_was_at_the_start(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[log]\naccess = false\n")) as ground:
        path = ground.add(b"x" * 100)
        await ground.get(path)
        mark = len(ground.node.log)
        ground.node.config_file.write_text("[log]\naccess = true\n")
        ground.node.reload()
        line = await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        assert line["needs_restart"] == ["log.access"]
        for _ in range(3):
            assert (await ground.get(path)).status == 200
        assert await lane_answers(ground.node) > 0
    assert not [line for line in ground.node.log if "status" in line]
