"""Warm hits over TLS on a real node: the same heads as the full path's, the same counting, nothing that has gone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.certificates import NAME
from tests.support.client import RawClient, Response
from tests.support.ground import HOST
from tests.support.tls_scene import BODY, TlsScene, issue, running


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[TlsScene]:
    async with running(tmp_path, issue(days_left=20)) as scene:
        yield scene


def over_tls(scene: TlsScene) -> RawClient:
    return RawClient(*scene.address, tls=(scene.client(), NAME))


async def get(client: RawClient, span: str | None = None) -> Response:
    fields = () if span is None else (("Range", f"bytes={span}"),)
    response = await client.request("GET", "/b", fields, host=HOST)
    first, _, last = (span or "-").partition("-")
    assert response.body == BODY[int(first or 0) : int(last) + 1 if last else None]
    return response


def steady(response: Response) -> bytes:
    """The head without what the seconds change."""
    return re.sub(rb"(Age: |ttl=)\d+", rb"\1", response.raw_head)


@pytest.mark.parametrize("span", [None, "5-9", "100-"])
async def test_a_hit_has_the_same_head_on_both_paths_byte_for_byte(scene: TlsScene, span: str | None) -> None:
    async with over_tls(scene) as client:
        await get(client)
        by_full_path = [await get(client, span)]  # learned here
        config = scene.node.config_file
        config.write_text(config.read_text().replace("[server]\n", "[server]\nfast_lane = false\n"))
        by_lane = [await get(client, span) for _ in range(3)]
        mark = len(scene.node.log)
        scene.node.reload()
        await scene.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        by_full_path += [await get(client, span) for _ in range(2)]
    assert {steady(response) for response in by_lane} == {steady(response) for response in by_full_path}


async def test_every_hit_over_tls_is_counted_as_such_and_logged(scene: TlsScene) -> None:
    async with over_tls(scene) as client:
        for _ in range(10):
            await get(client)
        answers = await scene.node.wait_answered("/b", 10)
    assert [(line["status"], line["bytes"]) for line in answers] == [(200, len(BODY))] * 10
    assert [line["outcome"] for line in answers] == ["miss"] + ["hit"] * 9
    metrics = await scene.node.metrics()
    assert metrics.total("cacheserver_requests_total", outcome="hit") == 9
    assert metrics.total("cacheserver_requests_total", listener="tls") == 10
    assert metrics.total("cacheserver_requests_total", listener="plain") == 0
    assert metrics.total("cacheserver_response_bytes_total", listener="tls") == 10 * len(BODY)


async def test_a_purge_between_two_requests_reaches_a_connection_over_tls(scene: TlsScene) -> None:
    body = json.dumps({"url": f"http://{HOST}/b"}).encode()
    async with over_tls(scene) as client:
        for _ in range(3):
            await get(client)
        async with RawClient(*scene.node.admin) as admin:
            fields = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
            await admin.send(admin.head("POST", "/api/v1/purge", fields) + body)
            assert (await admin.receive("POST")).status == 200
        assert "hit" not in (await get(client)).fields.lines("Cache-Status")[-1].split("; ")
