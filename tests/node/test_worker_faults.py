"""What several processes must survive: a worker that hangs, settings that change under an answer, too many clients."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.node.test_workers import BODY, processes, spread_clients, two_processes
from tests.support.client import RawClient, fetch
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.ground import HOST, PIECE, THIRD_HOST, GroundOptions, running_ground, was_hit
from tests.support.tls_scene import CONFIG, TlsScene, install, issue


async def test_a_stopped_worker_gets_no_more_clients_and_is_replaced_within_seconds(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as ground:
        path = ground.add(BODY)
        async with spread_clients(ground, path):
            _owner, worker = await processes(ground)
            os.kill(worker["pid"], signal.SIGSTOP)
            try:
                async with asyncio.timeout(12):
                    silent = await ground.node.wait_log(lambda line: line.get("event") == "worker_silent")
                    await ground.node.wait_log(
                        lambda line: line.get("event") == "worker_ready" and line["pid"] != worker["pid"]
                    )
            finally:
                if os.path.exists(f"/proc/{worker['pid']}"):
                    os.kill(worker["pid"], signal.SIGCONT)
            assert silent["pid"] == worker["pid"]
            assert not os.path.exists(f"/proc/{worker['pid']}"), "it is killed, not left to wake up and send old bytes"
        assert (await ground.get(path)).body == BODY


async def test_a_host_that_a_reload_takes_away_during_an_answer_is_not_learned_from_it(tmp_path: Path) -> None:
    options = GroundOptions(config=f'allow = ["{THIRD_HOST}"]\n', workers=1)
    async with running_ground(tmp_path, options) as ground:
        body = blob(311, 8 * PIECE)
        path = ground.add(body)
        assert (await fetch(ground.node.content, path, host=THIRD_HOST)).body == body
        async with RawClient(*ground.node.content, receive_buffer=32_768) as slow:
            running = await slow.start("GET", path, host=THIRD_HOST)
            assert was_hit(running)
            ground.node.config_file.write_text("")
            ground.node.reload()
            await ground.node.wait_log(lambda line: line.get("event") == "reloaded")
            assert (await slow.finish(running)).body == body
            assert (await slow.request("GET", path, host=THIRD_HOST)).status == 403


async def test_clients_of_every_process_count_against_the_limit_those_through_tls_too(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    install(folder, issue(days_left=20))
    config = CONFIG.replace("[server]\n", "[server]\nmax_connections = 4\n")
    async with two_processes(tmp_path, config=config) as ground:
        scene, path = TlsScene(ground.node, folder), ground.add(BODY)
        async with AsyncExitStack() as stack:
            for _ in range(4):
                client = await stack.enter_async_context(RawClient(*ground.node.content))
                assert (await client.request("GET", path, host=HOST)).body == BODY
            assert [process["connections"] for process in await processes(ground)] != [4, 0]
            async with RawClient(*ground.node.content) as fifth:
                assert await fifth.at_end()
            late = await scene.connect()

            async def refused() -> bool:
                return (await ground.node.metrics()).total("cacheserver_connections_refused_total") == 2

            await eventually(refused)
            await late.close()
