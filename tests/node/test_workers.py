"""Two processes behind one port: hits from both, one node to look at, and nothing that survives a change."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import ConnectionEnded, RawClient, Response, fetch
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import FRESH, HOST, PIECE, THIRD_HOST, Ground, GroundOptions, running_ground, was_hit

BODY = blob(301, 300_000)
CLIENTS = 6
WITHIN_S = 0.1
"""How soon a change must have reached every process."""


@asynccontextmanager
async def two_processes(directory: Path, *, config: str = "", max_size: str = "1GiB") -> AsyncIterator[Ground]:
    """A ground whose node has a worker that is ready."""
    options = GroundOptions(config=config, max_size=max_size, workers=2)
    async with running_ground(directory, options) as ground:
        await ground.node.wait_log(lambda line: line.get("event") == "worker_ready")
        yield ground


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with two_processes(tmp_path, config="[server]\ndrain_s = 5\n") as ground:
        yield ground


async def processes(ground: Ground) -> list[dict[str, Any]]:
    """Owner first, as the node itself tells."""
    workers = (await ground.node.status())["workers"]
    assert isinstance(workers, list)
    return workers


async def get(client: RawClient, path: str, span: str | None = None) -> Response:
    return await client.request("GET", path, () if span is None else (("Range", f"bytes={span}"),), host=HOST)


@asynccontextmanager
async def spread_clients(ground: Ground, path: str, count: int = CLIENTS) -> AsyncIterator[list[RawClient]]:
    """Connections for which ``path`` is warm, half of them with the worker."""
    assert (await ground.get(path)).status == 200
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(*ground.node.content)) for _ in range(count)]

        async def spread() -> bool:
            await asyncio.gather(*(get(client, path, "0-9") for client in clients))
            return [process["connections"] for process in await processes(ground)] == [count // 2, count // 2]

        await eventually(spread)
        yield clients


async def post(ground: Ground, path: str, body: dict[str, Any]) -> Response:
    host, port = ground.node.admin
    text = json.dumps(body).encode()
    async with RawClient(host, port) as client:
        head = client.head("POST", path, (("Content-Type", "application/json"), ("Content-Length", str(len(text)))))
        await client.send(head + text)
        return await client.finish(await client.receive_head("POST"))


async def test_both_processes_answer_hits_and_the_node_counts_and_logs_every_one(ground: Ground) -> None:
    path = ground.add(BODY)
    async with spread_clients(ground, path) as clients:
        before = [process["requests"] for process in await processes(ground)]
        hits = (await ground.node.metrics()).total("cacheserver_requests_total", outcome="hit")
        logged = len(await ground.node.wait_answered(path))
        for first in range(0, 200_000, 10_000):
            answers = await asyncio.gather(*(get(client, path, f"{first}-{first + 9_999}") for client in clients))
            assert all(answer.body == BODY[first : first + 10_000] and was_hit(answer) for answer in answers)
        after = [process["requests"] for process in await processes(ground)]
        assert [now - then for now, then in zip(after, before, strict=True)] == [3 * 20, 3 * 20]
        assert (await ground.node.metrics()).total("cacheserver_requests_total", outcome="hit") == hits + 120
        assert (await ground.node.metrics()).total("cacheserver_connections") == CLIENTS
        await ground.node.wait_answered(path, logged + 120)


async def test_a_worker_sends_the_same_heads_as_the_owner(ground: Ground) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("X-Kept", "as it came")))
    async with spread_clients(ground, path) as clients:
        answers = await asyncio.gather(*(get(client, path, "5-9") for client in clients))

        def lines(answer: Response) -> list[str]:
            names = [name for name, _value in answer.fields]
            return [
                name if name in ("Age", "Cache-Status") else f"{name}: {answer.fields.value(name)}" for name in names
            ]

        assert {tuple(lines(answer)) for answer in answers} == {tuple(lines(answers[0]))}
        assert answers[0].fields.value("Content-Range") == f"bytes 5-9/{len(BODY)}"


async def test_a_miss_on_a_workers_connection_is_answered_on_it_and_costs_one_fetch(ground: Ground) -> None:
    warm, cold = ground.add(BODY), ground.add(BODY)
    async with spread_clients(ground, warm) as clients:
        answers = await asyncio.gather(*(get(client, cold) for client in clients))
        assert all(answer.body == BODY for answer in answers)
        assert len(ground.origin.asked(cold)) == 1
        answers = await asyncio.gather(*(get(client, warm) for client in clients))
        assert all(was_hit(answer) and answer.body == BODY for answer in answers)


async def test_pipelined_hits_and_misses_are_answered_in_order(ground: Ground) -> None:
    warm, cold = ground.add(BODY), ground.add(blob(302, 5_000))
    async with spread_clients(ground, warm) as clients:
        for client in clients:
            small = client.head("GET", warm, (("Range", "bytes=0-9"),), host=HOST)
            large = client.head("GET", warm, host=HOST)
            await client.send(small + large + client.head("GET", cold, host=HOST) + small)
            bodies = [(await client.finish(await client.receive_head())).body for _ in range(4)]
            assert bodies == [BODY[:10], BODY, blob(302, 5_000), BODY[:10]]


async def test_a_head_may_be_split_at_every_byte(ground: Ground) -> None:
    path = ground.add(BODY)
    async with spread_clients(ground, path) as clients:
        for client in clients[:: CLIENTS - 1]:
            head = client.head("GET", path, (("Range", "bytes=7-20"),), host=HOST)
            for at in range(1, len(head)):
                await client.send(head[:at])
                await asyncio.sleep(0)
                await client.send(head[at:])
                assert (await client.finish(await client.receive_head())).body == BODY[7:21], at


async def test_a_half_closed_client_gets_its_answers(ground: Ground) -> None:
    path = ground.add(BODY)
    async with spread_clients(ground, path) as clients:
        for client in clients:
            await client.send(client.head("GET", path, host=HOST))
            client.half_close()
            assert (await client.finish(await client.receive_head())).body == BODY
            assert await client.at_end()


@pytest.mark.parametrize("change", ["purge", "generation", "reload"])
async def test_a_change_reaches_every_process_within_100_ms(ground: Ground, change: str) -> None:
    path, new = ground.add(BODY), blob(303, 200_000)
    async with spread_clients(ground, path) as clients:
        ground.origin.add(path, Content(new, headers=FRESH))
        if change == "purge":
            assert (await post(ground, "/api/v1/purge", {"url": f"http://{HOST}{path}"})).status == 200
        elif change == "generation":
            assert (await ground.get(path, ("Cache-Control", "no-cache"))).body == new
        else:
            ground.node.config_file.write_text(f'allow = ["{THIRD_HOST}"]\n')
            ground.node.reload()
            await ground.node.wait_log(lambda line: line.get("event") == "reloaded")
        await asyncio.sleep(WITHIN_S)
        answers = await asyncio.gather(*(get(client, path) for client in clients))
        assert {answer.body for answer in answers} == {BODY if change == "reload" else new}


async def test_an_allowed_host_that_is_withdrawn_is_refused_by_every_process(tmp_path: Path) -> None:
    async with two_processes(tmp_path, config=f'allow = ["{THIRD_HOST}"]\n') as ground:
        path = ground.add(BODY)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(*ground.node.content)) for _ in range(CLIENTS)]
            for _ in range(4):
                answers = [await client.request("GET", path, host=THIRD_HOST) for client in clients]
            assert all(was_hit(answer) for answer in answers)
            assert (await processes(ground))[1]["requests"] > 0
            ground.node.config_file.write_text("")
            ground.node.reload()
            await ground.node.wait_log(lambda line: line.get("event") == "reloaded")
            await asyncio.sleep(WITHIN_S)
            assert {(await client.request("GET", path, host=THIRD_HOST)).status for client in clients} == {403}


async def test_a_killed_worker_is_replaced_and_nothing_else_stops(ground: Ground) -> None:
    path = ground.add(BODY)
    async with spread_clients(ground, path) as clients:
        owner, worker = await processes(ground)
        counted = (await ground.node.metrics()).total("cacheserver_requests_total")
        os.kill(worker["pid"], signal.SIGKILL)
        async with asyncio.timeout(2):
            await ground.node.wait_log(lambda line: line.get("event") == "worker_lost")
            await ground.node.wait_log(
                lambda line: line.get("event") == "worker_ready" and line["pid"] != worker["pid"]
            )
        alive = 0
        for client in clients:
            try:
                alive += (await get(client, path)).body == BODY
            except (OSError, ConnectionEnded):
                continue
        assert alive == CLIENTS // 2
        assert (await ground.node.metrics()).total("cacheserver_requests_total") == counted + alive
    async with spread_clients(ground, path):
        assert (await processes(ground))[1]["pid"] not in (owner["pid"], worker["pid"])


async def test_workers_end_with_a_killed_owner(ground: Ground) -> None:
    _owner, worker = await processes(ground)
    await ground.node.kill()

    async def gone() -> bool:
        return not os.path.exists(f"/proc/{worker['pid']}")

    await eventually(gone)


async def test_sigterm_lets_the_answers_of_every_process_end(tmp_path: Path) -> None:
    async with two_processes(tmp_path, config="[server]\ndrain_s = 5\n") as ground:
        body = blob(304, 12 * PIECE)
        path = ground.add(body)
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(RawClient(*ground.node.content, receive_buffer=65_536))
                for _ in range(4)
            ]

            async def spread() -> bool:
                await asyncio.gather(*(get(client, path, "0-9") for client in clients))
                return [process["connections"] for process in await processes(ground)] == [2, 2]

            await ground.get(path)
            await eventually(spread)
            running = [await client.start("GET", path, host=HOST) for client in clients]
            _owner, worker = await processes(ground)
            ended = asyncio.create_task(ground.node.stop())
            for client, answer in zip(clients, running, strict=True):
                await client.finish(answer)
                assert answer.body == body
            assert await ended == 0
            assert not os.path.exists(f"/proc/{worker['pid']}")


async def test_an_object_that_a_worker_sends_to_a_slow_client_keeps_its_bytes_while_others_are_evicted(
    tmp_path: Path,
) -> None:
    config = '[store]\nextent = "2MiB"\n[server]\nmin_send_rate_bps = 0\n'
    async with two_processes(tmp_path, config=config, max_size="32MiB") as ground:
        body = blob(305, 10 * PIECE)
        path = ground.add(body)
        async with AsyncExitStack() as stack:
            slow = [
                await stack.enter_async_context(RawClient(*ground.node.content, receive_buffer=32_768))
                for _ in range(4)
            ]
            await ground.get(path)

            async def spread() -> bool:
                await asyncio.gather(*(get(client, path, "0-9") for client in slow))
                return [process["connections"] for process in await processes(ground)] == [2, 2]

            await eventually(spread)
            running = [await client.start("GET", path, host=HOST) for client in slow]
            for seed in range(8):
                other = ground.add(blob(400 + seed, 8 * PIECE))
                answer = await fetch(ground.node.content, other, host=HOST)
                assert len(answer.body) == 8 * PIECE
            assert (await ground.node.metrics()).total("cacheserver_evicted_bytes_total", reason="space") > 0
            for client, answer in zip(slow, running, strict=True):
                await client.finish(answer)
                assert answer.body == body
        status = await ground.node.status()
        assert all(volume["stored_bytes"] <= volume["capacity_bytes"] for volume in status["volumes"])


async def test_the_access_log_of_all_processes_stays_what_it_was_at_the_start(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[log]\naccess = false\n", workers=2)) as ground:
        path = ground.add(b"x" * 100)
        await ground.get(path)
        mark = len(ground.node.log)
        ground.node.config_file.write_text("[log]\naccess = true\n")
        ground.node.reload()
        line = await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        assert line["needs_restart"] == ["log.access"]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(*ground.node.content)) for _ in range(6)]
            for _ in range(6):
                for client in clients:
                    assert (await client.request("GET", path, host=HOST)).status == 200
        workers = (await ground.node.status())["workers"]
        assert all(worker["requests"] for worker in workers), "each process has answered some"
    assert not [line for line in ground.node.log if "status" in line]
