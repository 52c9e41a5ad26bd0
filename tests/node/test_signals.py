"""SIGTERM and SIGHUP: running answers are finished, new settings are taken only when they are right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import RawClient
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import FRESH, HOST, PIECE, THIRD_HOST, Ground, GroundOptions, running_ground, was_hit

BODY = blob(111, 3 * PIECE)


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions(config="[server]\ndrain_s = 5\n")) as ground:
        yield ground


async def test_sigterm_finishes_a_running_answer_and_exits_with_0(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=PIECE)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, PIECE)
        ended = asyncio.create_task(ground.node.stop())
        await wait_until_refused(ground)
        gate.open()
        await client.finish(response)
        assert (response.complete, response.body == BODY) == (True, True)
        assert await ended == 0


@pytest.mark.parametrize(
    "hanging", ["cacheserver.store.volume:write_atomically", "cacheserver.maintenance.volume_scrub:load_position"]
)
async def test_a_disk_call_that_never_returns_does_not_hold_up_the_end(tmp_path: Path, hanging: str) -> None:
    options = GroundOptions(
        config="[server]\ndrain_s = 0.3\n", module="tests.support.hanging", env={"HANGING": hanging}
    )
    async with running_ground(tmp_path, options) as ground:
        await ground.get(ground.add(BODY))
        assert await ground.node.stop() == 1
        assert "stop_forced" in [line.get("event") for line in ground.node.log]


async def wait_until_refused(ground: Ground) -> None:
    """The node takes no new connection any more."""

    async def refuses() -> bool:
        try:
            async with RawClient(*ground.node.content):
                return False
        except OSError:
            return True

    await eventually(refuses)


async def test_sigterm_cuts_what_does_not_end_and_exits_with_0(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[server]\ndrain_s = 0.3\n")) as ground:
        path = ground.add(BODY)
        gate = ground.origin.gate(path, at=PIECE)
        async with RawClient(*ground.node.content) as client, RawClient(*ground.node.content):
            response = await client.start("GET", path, host=HOST)
            await client.read_body(response, PIECE)
            assert await ground.node.stop() == 0
            await client.finish(response)
            assert not response.complete
        gate.open()


@pytest.mark.parametrize("warm", [True, False], ids=["lane", "fill"])
async def test_a_client_that_does_not_read_holds_up_the_end_for_the_drain_time_once(tmp_path: Path, warm: bool) -> None:
    drain_s = 2.0
    async with running_ground(tmp_path, GroundOptions(config=f"[server]\ndrain_s = {drain_s}\n")) as ground:
        path = ground.add(blob(112, 32 * PIECE))
        if warm:
            for _ in range(2):
                await ground.get(path)
        async with RawClient(*ground.node.content) as client:
            response = await client.start("GET", path, host=HOST)
            began_s = asyncio.get_running_loop().time()
            assert await ground.node.stop() == 0
            took_s = asyncio.get_running_loop().time() - began_s
            await client.finish(response)
            assert not response.complete, "the client was to be too slow"
        assert took_s < 1.8 * drain_s


async def test_a_request_of_an_administrator_does_not_hold_up_the_end(tmp_path: Path) -> None:
    config = GroundOptions(config="[server]\ndrain_s = 0.3\n")
    async with running_ground(tmp_path, config) as ground, RawClient(*ground.node.admin) as client:
        headers = [("Content-Type", "application/json"), ("Content-Length", "100")]
        await client.send(client.head("POST", "/api/v1/purge", headers) + b'{"url": ')
        await ground.node.status()
        began_s = asyncio.get_running_loop().time()
        assert await ground.node.stop() == 0
        assert asyncio.get_running_loop().time() - began_s < 6


async def test_idle_connections_do_not_hold_up_the_end(ground: Ground) -> None:
    path = ground.add(BODY)
    async with RawClient(*ground.node.content) as used, RawClient(*ground.node.content) as unused:
        assert (await used.request("GET", path, host=HOST)).body == BODY
        async with asyncio.timeout(4):
            assert await ground.node.stop() == 0
        assert await used.at_end()
        assert await unused.at_end()


async def test_a_reload_adds_an_allowed_host_and_keeps_connections_and_cache(ground: Ground) -> None:
    path = ground.add(BODY)
    assert (await ground.get(path)).body == BODY
    assert (await ground.get(path, host=THIRD_HOST)).status == 403
    mark = len(ground.node.log)
    ground.node.config_file.write_text(f'allow = ["{THIRD_HOST}"]\n')
    async with RawClient(*ground.node.content) as client:
        assert (await client.request("GET", path, host=HOST)).body == BODY
        ground.node.reload()
        await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        response = await client.request("GET", path, host=HOST)
        assert (response.body == BODY, was_hit(response)) == (True, True)
    ground.origin.add("/third", Content(b"third", headers=FRESH))
    assert (await ground.get("/third", host=THIRD_HOST)).body == b"third"


BAD = {
    "unknown key": ('[server]\nidle_timeout_s = 5\nlistn = ["127.0.0.1:0"]\n', 3, "listn"),
    "bad value": ("[fill]\n\nparallel = 0\n", 3, "parallel"),
    "not TOML": ("[server]\nidle_timeout_s = = 5\n", 2, ""),
    "bad host": ('allow = ["ok.example.test", "a..b"]\n', 1, "allow"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_reload_names_line_and_key_and_keeps_the_old_settings(ground: Ground, name: str) -> None:
    text, line_number, key = BAD[name]
    path = ground.add(BODY)
    mark = len(ground.node.log)
    ground.node.config_file.write_text(text)
    ground.node.reload()
    line = await ground.node.wait_log(lambda line: "cacheserver.toml" in str(line), since=mark)
    assert f"cacheserver.toml:{line_number}" in str(line)
    assert key in str(line)
    assert line["level"] in ("error", "warning")
    assert (await ground.get(path)).body == BODY
    assert (await ground.get(path, host="ok.example.test")).status == 403


async def test_many_reloads_in_a_row_do_not_disturb_running_answers(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=PIECE)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, PIECE)
        mark = len(ground.node.log)
        for _ in range(10):
            ground.node.reload()
        await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        gate.open()
        assert (await client.finish(response)).body == BODY
