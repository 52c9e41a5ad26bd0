"""What one client sends never changes what another one gets, and of a client's fields only the named ones go up."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.content import Content, blob
from tests.support.ground import DO_HOST, FRESH, HOST, OTHER_HOST, THIRD_HOST, Ground, GroundOptions, running_ground
from tests.support.record import RequestRecord

NAMED = THIRD_HOST
"""A service that names the fields it forwards."""
CONFIG = f"""
[services.named]
hosts = ["{NAMED}"]
forward_fields = ["X-Edition"]
"""
_BODY = blob(21, 600)
_JSON = ("Content-Type", "application/json")
_VALUES = (
    "evil.example",
    "127.0.0.1",
    "http",
    "https",
    "/admin",
    "DELETE",
    "1",
    "*/*",
    "gzip, br",
    "a=b; c=d",
    "x" * 900,
)
_FIELDS = (
    "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Cookie", "DNT",
    "Forwarded", "From", "Front-End-Https", "Max-Forwards", "MS-CV", "Origin", "Pragma", "Priority", "Referer",
    "Sec-Fetch-Mode", "True-Client-IP", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
    "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Host",
    "X-HTTP-Host-Override", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-Host",
    "X-Original-URL", "X-Real-IP", "X-Rewrite-URL", "X-Url-Scheme", "X-WAP-Profile", "Proxy-Authorization", "TE",
    "Content-Type", "Content-Encoding", "If-None-Match", "If-Match", "X-Cache-Key", "CF-Connecting-IP", "X-Edition",
)  # fmt: skip
_OVERRIDES = tuple(name for name in _FIELDS if name.startswith(("X-Forwarded", "X-HTTP", "X-Original", "X-Rewrite")))


def drawn_fields(draw: random.Random) -> list[tuple[str, str]]:
    """A handful of fields that are in no key, conditions that cannot hold included."""
    lines = [(name, draw.choice(_VALUES)) for name in draw.sample(_FIELDS, draw.randrange(1, 9))]
    lines = [(name, '"none"') if name == "If-None-Match" else (name, value) for name, value in lines]
    lines = [line for line in lines if line[0] not in ("If-Match", "Cache-Control", "Pragma", "Via")]
    if draw.random() < 0.2:
        lines.append(("Connection", f"keep-alive, {draw.choice(_FIELDS)}"))
    return lines


def drawn_form(draw: random.Random, path: str) -> tuple[str, str]:
    """Target and Host of one of the three ways to name the shipped host."""
    form = draw.randrange(3)
    if form == 0:
        return f"{path}?P1=1&P2=2&cacheHostOrigin={DO_HOST}", "node.example"
    if form == 1:
        return f"http://{DO_HOST}{path}?P1=1&P2=2", "proxy.example"
    return f"{path}?P1=1&P2=2", DO_HOST


def shown(record: RequestRecord) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """All that an origin can see of a request, but how much it asks for: that follows from the line."""
    fields = tuple((name, value.partition("-")[0] if name == "Range" else value) for name, value in record.fields)
    return record.method, record.target, fields


async def forget(client: RawClient, path: str) -> None:
    body = json.dumps({"url": f"http://{DO_HOST}{path}?P1=1"})
    await client.send(client.head("POST", "/api/v1/purge", [_JSON, ("Content-Length", str(len(body)))]) + body.encode())
    assert (await client.receive()).status == 200


async def shipped(ground: Ground, pairs: int, draw: random.Random) -> list[str]:
    """Pairs of requests for one content of a shipped service, the second one after a purge."""
    faults = []
    path = ground.add(_BODY)
    async with RawClient(*ground.node.content) as client, RawClient(*ground.node.admin) as admin:
        for _ in range(pairs):
            seen = []
            for _ in range(2):
                target, host = drawn_form(draw, path)
                lines = drawn_fields(draw)
                answer = await client.request("GET", target, lines, host=host)
                if (answer.status, answer.body) != (200, _BODY):
                    faults.append(f"{target} with {lines}: {answer.status}")
                    continue
                seen.append(shown(ground.origin.requests[-1]))
                await forget(admin, path)
            if len(set(seen)) != 1:
                faults.append(f"upstream requests differ: {seen}")
    own = {name for name, _ in ground.origin.requests[-1].fields}
    if not own <= {"Host", "User-Agent", "Accept-Encoding", "Via", "Range"}:
        faults.append(f"fields that went up: {own}")
    return faults


async def own(ground: Ground, draws: int, draw: random.Random) -> list[str]:
    """A service that names one field, and one that forwards every field: what goes up, and what is kept apart."""
    faults = []

    def reflecting(record: RequestRecord) -> Content:
        names = ("X-Edition", *_OVERRIDES)
        body = repr([record.fields.value(name) for name in names]).encode()
        return Content(body, etag=None, headers=(*FRESH, ("Vary", "X-Edition")))

    for number in range(draws):
        path = f"/own/{number}"
        ground.origin.add(path, reflecting)
        for host in (NAMED, OTHER_HOST):
            lines = [(name, draw.choice(_VALUES)) for name in draw.sample(_OVERRIDES, 3)]
            await ground.node.get(path, [*lines, ("X-Edition", "evil"), ("X-Other", "x")], host=host)
            up = ground.origin.requests[-1].fields
            if host == NAMED and "X-Other" in up:
                faults.append("a field that the rule does not name went up")
            faults += [f"{name} went up to {host}" for name in _OVERRIDES if name in up]
            answer = await ground.node.get(path, [("X-Edition", "right")], host=host)
            if b"evil" in answer.body or b"right" not in answer.body:
                faults.append(f"{host}: another client's fields in {answer.body!r}")
    return faults


async def bodies(ground: Ground) -> list[str]:
    """A GET with a body is refused, and changes nothing for the next client."""
    path = ground.add(_BODY)
    async with RawClient(*ground.node.content) as client:
        await client.send(client.head("GET", path, [("Content-Length", "7")], host=HOST) + b"poison!")
        refused = (await client.receive()).status
    answer = await ground.get(path)
    right = refused == 413 and answer.body == _BODY and len(ground.origin.asked(path)) == 1
    return [] if right else [f"a GET with a body: {refused}, then {answer.status}"]


async def measure(scene: Scene) -> Figure:
    """Drawn pairs on one ground."""
    draw = random.Random(3)
    pairs, draws = scene.size(1500, 250), scene.size(200, 25)
    options = GroundOptions(config=CONFIG)
    async with running_ground(scene.room("node"), options) as ground:
        faults = await shipped(ground, pairs, draw)
    async with running_ground(scene.room("own"), options) as ground:
        faults += await own(ground, draws, draw) + await bodies(ground)
    text = (
        f"{pairs} pairs: upstream byte-identical, 0 client fields up; {2 * draws} own-service pairs kept apart by Vary"
    )
    return Figure(text, faults)


ROW = Row(
    "poisoning by fields, cookies, bodies, method override, form",
    "shipped: identical upstream over >= 1,000 pairs, 0 client fields; own: only what is named",
    measure,
)


@pytest.mark.timeout(180)
async def test_no_unkeyed_input_reaches_an_origin_or_another_client(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
