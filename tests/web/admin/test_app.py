"""The admin listener: who may ask, and what they hear."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestServer

from cacheserver.core.request.client import Client
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.web.admin.app import admin_app
from cacheserver.web.admin.views import Views
from cacheserver.web.options import AdminOptions
from tests.support.answers import answer

TOKEN = "0123456789abcdef"
HEALTH = ("/healthz", "/readyz")
PROTECTED = ("/metrics", "/api/v1/status", "/api/v1/overview")
PATHS = (*HEALTH, *PROTECTED)
Get = Callable[..., Any]


def status() -> dict[str, Any]:
    return {"version": "x", "note": "\u202e"}


@asynccontextmanager
async def admin(
    options: AdminOptions | None = None,
    *,
    not_ready: Callable[[], list[str]] = list,
    status: Callable[[], dict[str, Any]] = status,
    overview: Callable[[], dict[str, Any]] = status,
) -> AsyncIterator[tuple[ClientSession, str]]:
    """A running admin listener: a session and its base URL."""
    meter = PrometheusMeter(services=["wu"])
    meter.answered(answer("wu", "hit", 206, 10, 0.1, Client()))
    views = Views(
        book=lambda: None, render=meter.render, not_ready=not_ready, node_status=status, node_overview=overview
    )
    app = admin_app(options or AdminOptions(), views)
    async with TestServer(app) as server, ClientSession() as session:
        yield session, f"http://127.0.0.1:{server.port}"


async def one_line(response: ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer, which is one ASCII line."""
    text = await response.text()
    assert response.content_type == "application/json"
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    value: dict[str, Any] = json.loads(text)
    return value


async def test_healthz_is_200_even_when_not_ready() -> None:
    async with admin(not_ready=lambda: ["draining"]) as (session, base), session.get(f"{base}/healthz") as response:
        assert response.status == 200
        assert await one_line(response) == {"status": "ok"}


@pytest.mark.parametrize(("reasons", "code"), [([], 200), (["no volume is online", "draining"], 503)])
async def test_readyz_says_why_not(reasons: list[str], code: int) -> None:
    async with admin(not_ready=lambda: reasons) as (session, base), session.get(f"{base}/readyz") as response:
        assert response.status == code
        assert await one_line(response) == {"ready": code == 200, "reasons": reasons}


async def test_metrics_are_served_in_both_formats() -> None:
    async with admin() as (session, base):
        async with session.get(f"{base}/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert (
                'cacheserver_requests_total{code="2xx",listener="plain",outcome="hit",service="wu"} 1.0'
                in await response.text()
            )
        async with session.get(f"{base}/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
            assert response.content_type == "application/openmetrics-text"


async def test_metrics_can_be_switched_off() -> None:
    async with admin(AdminOptions(metrics=False)) as (session, base), session.get(f"{base}/metrics") as response:
        assert response.status == 404


async def test_status_is_json() -> None:
    async with admin() as (session, base), session.get(f"{base}/api/v1/status") as response:
        assert response.status == 200
        assert await one_line(response) == status()


async def test_unknown_path_and_method_are_one_line_of_json() -> None:
    async with admin() as (session, base):
        async with session.get(f"{base}/nothing/%0a") as response:
            assert response.status == 404
            assert await one_line(response) == {"error": "not found"}
        async with session.post(f"{base}/healthz", data=b"x") as response:
            assert response.status == 405
            assert set(response.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}
            assert await one_line(response) == {"error": "method not allowed"}


async def test_failing_status_is_500_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("secret")

    async with admin(status=broken) as (session, base), session.get(f"{base}/api/v1/status") as response:
        assert response.status == 500
        assert await one_line(response) == {"error": "internal error"}
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["admin_failed"]


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_head_of_get_and_no_body(path: str) -> None:
    async with admin() as (session, base):
        async with session.get(base + path) as response:
            expected = (response.status, response.content_type)
        async with session.head(base + path) as response:
            assert (response.status, response.content_type) == expected
            assert await response.read() == b""


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_no_answer_names_the_server_or_may_be_cached(path: str) -> None:
    async with admin() as (session, base), session.get(base + path) as response:
        assert "Server" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"]
)
@pytest.mark.parametrize("path", [*PROTECTED, "/nothing"])
async def test_wrong_token_is_401_everywhere(path: str, sent: str | None) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    options = AdminOptions(token=TOKEN)
    async with admin(options) as (session, base), session.get(base + path, headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in json.dumps(await one_line(response))


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Bearer {TOKEN}"])
@pytest.mark.parametrize("path", HEALTH)
async def test_health_needs_no_token(path: str, sent: str | None) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    options = AdminOptions(token=TOKEN)
    async with admin(options) as (session, base), session.get(base + path, headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_right_token_admits_under_any_host_name(scheme: str) -> None:
    async with admin(AdminOptions(token=TOKEN, listen="0.0.0.0:1")) as (session, base):
        headers = {"Authorization": f"{scheme} {TOKEN}", "Host": "node.example"}
        async with session.get(f"{base}/api/v1/status", headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8081", 200),
        ("192.0.2.1:8081", 200),
        ("[::1]", 200),
        ("[::1]:8081", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("cache.internal:8081", 200),
        ("cache.internal.", 200),
        (socket.gethostname(), 200),
        ("attacker.example", 403),
        ("attacker.example:8081", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("[::1", 403),
        ("[::1]80", 403),
        ("127.0.0.1:", 200),
        ("[::1].attacker.example", 403),
        ("127.0.0.1:x", 403),
    ],
)
async def test_page_that_rebinds_its_name_is_refused(host: str, code: int) -> None:
    options = AdminOptions(listen="cache.internal:8081")
    async with admin(options) as (session, base), session.get(f"{base}/readyz", headers={"Host": host}) as response:
        assert response.status == code
        await one_line(response)
