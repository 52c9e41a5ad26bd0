"""Nobody without the token sees or changes anything, guessing it is slow and noticed, and clients never meet it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.web.admin.actions import AdminActions
from cacheserver.web.admin.app import admin_app
from cacheserver.web.admin.pins import AdminPins
from cacheserver.web.admin.status_page import PATHS
from cacheserver.web.admin.token_guesses import BURST, MAX_ADDRESSES, PER_S, Guesses
from cacheserver.web.admin.views import Views
from cacheserver.web.options import AdminOptions
from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.node import Node, running_node

TOKEN = "a-token-of-the-test-0123456789"
_CONNECTIONS = 24
_BODY = (("Content-Type", "application/json"), ("Content-Length", "0"))


def routes() -> list[tuple[str, str]]:
    """Method and path of every admin route there is."""
    render = PrometheusMeter(services=[]).render
    views = Views(book=lambda: None, render=render, not_ready=list, node_status=dict, node_overview=dict)
    actions, pins = AdminActions.__new__(AdminActions), AdminPins.__new__(AdminPins)
    app = admin_app(AdminOptions(), views, actions, pins)
    found = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    assert len(found) >= 10, found
    return sorted(found)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


HEALTH = ("/healthz", "/readyz")
"""On both ports, for everyone: they say nothing but whether the node works."""


async def without_right(node: Node) -> list[str]:
    """Every route without a token, with a wrong one and with something else in its place."""
    faults = []
    strangers: list[tuple[tuple[str, str], ...]] = [
        (), bearer(TOKEN[:-1] + "x"), bearer(TOKEN + "x"), bearer(""), (("Authorization", TOKEN),),
        (("Authorization", f"Basic {TOKEN}"),), (("Cookie", f"token={TOKEN}"),), (("X-Token", TOKEN),),
    ]  # fmt: skip
    for method, path in routes():
        for lines in strangers:
            answer = await node.ask_admin(path, (*lines, *_BODY), method=method)
            is_open = (path in PATHS or path in HEALTH) and answer.status == 200  # no data in them
            if (answer.status not in (401, 429) and not is_open) or b"cacheserver_" in answer.body:
                faults.append(f"{method} {path} with {lines}: {answer.status}")
        tells_health = path in HEALTH and method in ("GET", "HEAD")
        if (await node.get(path, method=method)).status < 400 and not tells_health:
            faults.append(f"{method} {path} is answered on the content port")
    return faults


async def across_sites(node: Node) -> list[str]:
    """Pages of other sites, and names that lead to the listener: on a node without a token."""
    faults = []
    for method, path in routes():
        for host in ("evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            answer = await node.ask_admin(path, (("Host", host), *_BODY), method=method)
            if answer.status not in (400, 403):
                faults.append(f"{method} {path} as {host!r}: {answer.status}")
        if method != "POST":
            continue
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            answer = await node.ask_admin(path, (("Content-Type", kind), ("Content-Length", "0")), method=method)
            if answer.status < 400:
                faults.append(f"{path} by a form of {kind!r}: {answer.status}")
        for name, value in (("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")):
            answer = await node.ask_admin(path, (*_BODY, (name, value)), method=method)
            if answer.status < 400:
                faults.append(f"{path} with {name}: {value}: {answer.status}")
    return faults


async def guess(node: Node, guesses: int) -> tuple[Counter[int], float]:
    """That many wrong tokens over many connections at once: statuses, and how long it took."""
    statuses: Counter[int] = Counter()
    numbers = iter(range(guesses))

    async def work() -> None:
        async with RawClient(*node.admin) as client:
            for number in numbers:
                statuses[(await client.request("GET", "/api/v1/status", bearer(f"guess-{number:020}"))).status] += 1

    began_s = time.monotonic()
    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))
    return statuses, time.monotonic() - began_s


async def status_from(node: Node, source: str) -> int:
    """What the right token gets from another address of this machine."""
    async with ClientSession(connector=TCPConnector(local_addr=(source, 0))) as session:
        url = f"http://{node.admin[0]}:{node.admin[1]}/api/v1/status"
        async with session.get(url, headers=dict(bearer(TOKEN))) as answer:
            return answer.status


async def guessed(node: Node, guesses: int) -> tuple[str, list[str]]:
    """The figure of a guessing run, and what was wrong with it."""
    statuses, took_s = await guess(node, guesses)
    read, unread = statuses[401], statuses[429]
    faults = []
    if read + unread != guesses:
        faults.append(f"guesses were answered {statuses}")
    if read > BURST + PER_S * took_s + 1:
        faults.append(f"{read} guesses were compared in {took_s:.1f} s")
    if await status_from(node, "127.0.0.1") != 429:
        faults.append("the right token is looked at while its address guesses")
    if await status_from(node, "127.0.0.2") != 200:
        faults.append("another address is locked out")
    lines = [line for line in node.log if line.get("event") == "admin_denied"]
    reasons = {line["reason"] for line in lines}
    if not {"no_token", "wrong_token", "guessing"} <= reasons:
        faults.append(f"the log tells of {reasons} only")
    if len(lines) > 1000 or max(line["wrong_tokens"] for line in lines) < BURST:
        faults.append(f"the log has {len(lines)} lines and does not tell how many tokens were wrong")
    return f"{guesses} guesses: {read} compared, {unread} refused unread, {len(lines)} audit lines", faults


async def measure(scene: Scene) -> Figure:
    """A node with a token, one without, and one without /metrics."""
    guesses = scene.size(10_000, 1500)
    async with running_node(scene.room("token"), config=f'[admin]\ntoken = "{TOKEN}"\n') as node:
        faults = await without_right(node)
        text, found = await guessed(node, guesses)
        faults += found
    async with running_node(scene.room("open"), config="[admin]\nmetrics = false\n") as node:
        faults += await across_sites(node)
        if (await node.ask_admin("/metrics")).status != 404:
            faults.append("/metrics cannot be switched off")
    return Figure(f"{len(routes())} routes x 8 strangers, 5 names, 7 foreign posts refused; {text}", faults)


ROW = Row(
    "admin: no or wrong token, CSRF, rebinding, guesses, content port",
    "refused, delayed, audited; nothing on the content port; /metrics switchable",
    measure,
)


@pytest.mark.timeout(120)
async def test_strangers_are_refused_and_guessing_is_slow_and_logged(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()


def test_an_address_gets_one_try_a_second_after_its_first_ones() -> None:
    now_s = 100.0
    guesses = Guesses(monotonic_s=lambda: now_s)
    for _ in range(BURST):
        assert guesses.wait_s("192.0.2.1") == 0.0
        guesses.failed("192.0.2.1")
    assert guesses.wait_s("192.0.2.1") == 1.0
    assert guesses.wait_s("192.0.2.2") == 0.0
    now_s = 101.0
    assert guesses.wait_s("192.0.2.1") == 0.0
    guesses.failed("192.0.2.1")
    assert guesses.wait_s("192.0.2.1") == 1.0
    assert guesses.wrong == BURST + 1


def test_all_addresses_of_one_ipv6_network_share_their_tries_and_the_table_is_bounded() -> None:
    guesses = Guesses(monotonic_s=lambda: 0.0)
    for number in range(BURST):
        guesses.failed(f"2001:db8::{number:x}")
    assert guesses.wait_s("2001:db8::ffff") > 0.0
    assert guesses.wait_s("2001:db8:0:1::1") == 0.0
    for number in range(MAX_ADDRESSES):
        guesses.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(guesses._left) == MAX_ADDRESSES


def test_the_routes_that_are_attacked_are_those_of_the_application() -> None:
    assert ("POST", "/api/v1/purge") in routes()
    assert ("GET", "/metrics") in routes()
    assert isinstance(web.Application().router, web.UrlDispatcher)
