"""Sessions and TLS contexts: what is verified, and which of aiohttp's defaults are off."""

from __future__ import annotations

import gzip
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cacheserver.core.errors import ConfigError
from cacheserver.outgoing.session import client_context, open_session, unverified_context
from tests.support.certificates import Authority

PACKED = gzip.compress(b"body")


class Server:
    """Answers with a cookie and a packed body; keeps what came."""

    def __init__(self) -> None:
        self.cookies: list[str] = []
        self.connections: set[object] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.cookies.append(request.headers.get("Cookie", ""))
        self.connections.add(request.transport)
        return web.Response(body=PACKED, headers={"Content-Encoding": "gzip", "Set-Cookie": "a=b"})

    def started(self) -> TestServer:
        app = web.Application()
        app.router.add_get("/", self.answer)
        return TestServer(app, host="127.0.0.1")


async def test_bodies_come_as_sent_cookies_stay_and_no_proxy_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = Server()
    async with server.started() as running, open_session(resolver=None) as session:
        for _ in range(2):
            async with session.get(f"http://localhost:{running.port}/") as answer:
                assert await answer.read() == PACKED
    assert server.cookies == ["", ""]
    assert len(server.connections) == 1


async def test_certificates_are_verified_unless_only_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    running = Server().started()
    await running.start_server(ssl=authority.server_context())
    url = f"https://localhost:{running.port}/"
    async with running, open_session(resolver=None, tls=client_context(authority.ca_file)) as session:
        for tls in (client_context(authority.ca_file), unverified_context()):
            async with session.get(url, ssl=tls) as answer:
                assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(url, ssl=client_context())


@pytest.mark.parametrize("name", ["none.pem", "text.pem"])
def test_a_bundle_without_certificates_is_refused_with_its_setting(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        client_context(str(tmp_path / name), key="trust.ca_file")
    assert caught.value.key == "trust.ca_file"
