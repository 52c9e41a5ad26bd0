"""What the overview says of a running node, held against traffic that is known."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import DO_HOST, HOST, OTHER_HOST, PIECE, THIRD_HOST, Ground, GroundOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(
    config='[services.near]\nhosts = ["localhost"]\n\n[[subnets]]\nname = "here"\nnetworks = ["127.0.0.0/8"]\n'
)


async def overview(ground: Ground) -> dict[str, Any]:
    response = await ground.node.ask_admin("/api/v1/overview")
    assert response.status == 200
    told = json.loads(response.body)
    assert isinstance(told, dict)
    return told


def row(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = [each for each in rows if each["name"] == name]
    return found[0] if found else {"name": name, "requests": 0, "response_bytes": 0, "upstream_bytes": 0}


async def test_traffic_is_what_clients_and_origin_have_seen(ground: Ground) -> None:
    body = blob(4001, 2 * PIECE)
    path = ground.add(body)
    before = await overview(ground)
    for _ in range(12):
        assert (await ground.get(path, host=OTHER_HOST)).body == body
    await ground.node.wait_answered(path, 12)
    after = await overview(ground)
    grown = {name: after["traffic"][name] - before["traffic"][name] for name in ("requests", "response_bytes")}
    assert grown == {"requests": 12, "response_bytes": 12 * len(body)}
    assert after["traffic"]["upstream_bytes"] - before["traffic"]["upstream_bytes"] == len(body)
    service = row(after["traffic"]["services"], OTHER_HOST)
    assert service["requests"] == 12
    assert (service["response_bytes"], service["upstream_bytes"]) == (12 * len(body), len(body))
    hits = [row(told["traffic"]["outcomes"], "hit")["requests"] for told in (before, after)]
    assert hits[1] - hits[0] == 11
    assert row(after["traffic"]["subnets"], "here")["requests"] == after["traffic"]["requests"]
    assert after["clock_s"] > before["clock_s"] > 0


async def test_a_fill_is_shown_with_what_has_come_and_without_its_query(ground: Ground) -> None:
    body = blob(4002, 3 * PIECE)
    path = ground.add(body)
    gate = ground.origin.gate(path, at=PIECE + PIECE // 2)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", f"{path}?token=s3cret", host=HOST)
        await client.read_body(response, PIECE + PIECE // 2)
        told = await overview(ground)
        assert told["fills"]["objects"] == 1
        (fill,) = told["fills"]["shown"]
        assert fill["key"] == f"{HOST}{path}"
        assert (fill["host"], fill["service"]) == (HOST, HOST)
        assert (fill["length_bytes"], fill["stored_bytes"]) == (len(body), PIECE + PIECE // 2)
        assert (fill["requests"], fill["readers"]) == (1, 1)
        assert "s3cret" not in json.dumps(told)
        gate.open()
        assert (await client.finish(response)).body == body
    assert (await overview(ground))["fills"] == {"objects": 0, "shown": []}


async def test_refusals_are_told_by_reason_and_host_and_nothing_else(ground: Ground) -> None:
    for _ in range(3):
        await ground.node.get("/secret-path?P4=s3cret&cacheHostOrigin=Unknown.Example.org.")
    await ground.node.get("/secret-path?P4=s3cret", host="<script>alert(1)</script>")
    await ground.get("/secret-path?P4=s3cret", method="POST", host=DO_HOST)
    await ground.node.wait_answered("/secret-path", 5)
    told = await overview(ground)
    seen = {(each["reason"], each["host"]): each for each in told["refusals"]}
    assert seen["host_not_allowed", "unknown.example.org"]["count"] == 3
    assert seen["malformed", ""]["count"] >= 1
    assert any(reason == "method_not_allowed" for reason, _host in seen)
    assert abs(told["time_s"] - seen["malformed", ""]["last_s"]) < 60
    for secret in ("secret", "P4", "script"):
        assert secret not in json.dumps(told["refusals"])


async def test_the_setting_that_a_refusal_names_allows_the_host(ground: Ground) -> None:
    path = ground.add(blob(4003, 100))
    assert (await ground.get(path, host=THIRD_HOST)).status == 403
    (refused,) = [each for each in (await overview(ground))["refusals"] if each["host"] == THIRD_HOST]
    setting = refused["remedy"]["setting"]
    assert tomllib.loads(setting) == {"allow": [THIRD_HOST]}
    config = ground.node.config_file.read_text()
    ground.node.config_file.write_text(f"{setting}\n{config}")
    mark = len(ground.node.log)
    ground.node.reload()
    await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
    assert (await ground.get(path, host=THIRD_HOST)).status == 200


async def test_an_address_that_the_policy_refuses_is_told_with_its_host(ground: Ground) -> None:
    assert (await ground.get("/x", host="localhost")).status == 502
    (refused,) = [each for each in (await overview(ground))["refusals"] if each["host"] == "localhost"]
    assert (refused["reason"], refused["count"], refused["remedy"]["setting"]) == ("address_refused", 1, "")
    assert "allow_addresses" in refused["remedy"]["text"]
