"""A real node over TLS: what it negotiates, what it resumes, and with what it starts."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which

import pytest

from tests.support.certificates import NAME
from tests.support.client import RawClient
from tests.support.flow import PATIENCE_S, eventually
from tests.support.ground import HOST
from tests.support.node import Address, running_node
from tests.support.tls_scene import BODY, CONFIG, NAMES, PKI, TlsScene, install, issue, running

needs_openssl = pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[TlsScene]:
    async with running(tmp_path, issue(days_left=20)) as scene:
        yield scene


async def test_both_families_serve_over_tls_and_never_negotiate_h2(scene: TlsScene) -> None:
    for address in (scene.address, scene.v6):
        exchange = await scene.connect(address=address)
        assert exchange.tls.selected_alpn_protocol() == "http/1.1"
        assert exchange.tls.version() == "TLSv1.3"
        assert await exchange.get() == BODY
        await exchange.close()


async def test_a_client_that_speaks_h2_only_gets_none_and_old_versions_are_refused(scene: TlsScene) -> None:
    only_h2 = scene.client()
    only_h2.set_alpn_protocols(["h2"])
    exchange = await scene.connect(only_h2)
    assert exchange.tls.selected_alpn_protocol() is None
    await exchange.close()
    weak = scene.client()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await scene.connect(weak)


async def test_clients_with_and_without_tls_count_against_one_limit(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    install(folder, issue(days_left=20))
    config = CONFIG.replace("[server]\n", "[server]\nmax_connections = 2\n")
    async with running_node(tmp_path, config=config) as node, RawClient(*node.content) as plain:
        assert (await plain.request("GET", "/x", host="unknown.example.test")).status == 403
        scene = TlsScene(node, folder)
        secure = await scene.connect()
        async with RawClient(*node.content) as third:
            assert await third.at_end()
        with pytest.raises(OSError):
            await scene.connect()

        async def refused() -> bool:
            return (await node.metrics()).total("cacheserver_connections_refused_total") == 2

        await eventually(refused)
        await secure.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed_also_after_the_certificate_was_replaced(
    version: ssl.TLSVersion, scene: TlsScene
) -> None:
    context = scene.client()
    context.maximum_version = version
    reused, session = await asyncio.to_thread(resumed, scene.address, context, None)
    assert not reused
    reused, session = await asyncio.to_thread(resumed, scene.address, context, session)
    assert reused
    new, since = issue(days_left=25), len(scene.node.log)
    install(scene.folder, new)
    await scene.loaded(new, since=since)
    assert (await asyncio.to_thread(resumed, scene.address, context, session))[0]


def resumed(
    address: Address, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether the node took up the session, and the session to try next."""
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=NAME, session=session) as tls,
    ):
        tls.sendall(f"HEAD /b HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert tls.recv(4096).startswith(b"HTTP/1.1 200 ")
        return bool(tls.session_reused), tls.session


@needs_openssl
async def test_a_client_cannot_renegotiate(scene: TlsScene) -> None:
    host, port = scene.address
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-servername", NAME]
    done = await asyncio.to_thread(
        subprocess.run, command, input=b"R\n", capture_output=True, timeout=PATIENCE_S, check=False
    )
    output = done.stdout + done.stderr
    assert b"RENEGOTIATING" in output
    assert b"no renegotiation" in output


async def test_a_node_starts_with_an_expired_certificate_and_warns(tmp_path: Path) -> None:
    async with running(tmp_path, PKI.issue(*NAMES, days=(-9, -1))) as scene:
        line = await scene.node.wait_log(lambda line: line.get("event") == "certificate_warning")
        assert "expired" in line["reason"]
        (warning,) = (await scene.node.status())["certificate"]["warnings"]
        assert "expired" in warning


async def test_a_node_whose_key_is_exposed_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    install(folder, issue(days_left=9))
    (folder / "node.key").chmod(0o604)
    config = tmp_path / "node.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "cacheserver", "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
    command += ["--admin-listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache")]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=PATIENCE_S, check=False, text=True
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"cacheserver: error: {folder}/node.key: tls.key: can be read by everyone")
