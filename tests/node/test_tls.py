"""A real node over TLS: what it negotiates, and certificates replaced under running traffic."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which

import pytest

from tests.support.content import Content, blob
from tests.support.flow import PATIENCE_S
from tests.support.ground import FRESH, HOST
from tests.support.node import Address, Node, running_node
from tests.support.origin import Origin
from tests.support.pki import NAME, Issued, Pki, cert_pem, key_pem, replace, write_pair

PKI = Pki()
BODY = blob(7, 20_000)
NAMES = (NAME, "127.0.0.1", "::1")
CONFIG = """
[server]
listen_tls = ["127.0.0.1:0", "[::1]:0"]
[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
names = ["cache.example.test"]
check_s = 0.05
"""
needs_openssl = pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")


class Scene:
    """A node with TLS listeners on both families in front of an origin that holds ``BODY`` at /b."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        (listening,) = [line for line in node.log if line.get("event") == "listening"]
        (self.address, self.v6) = (_address(text) for text in listening["tls"])

    def client(self) -> ssl.SSLContext:
        """A client that trusts the root only and offers h2 first."""
        context = ssl.create_default_context(cadata=cert_pem(PKI.root).decode())
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    async def connect(self, context: ssl.SSLContext | None = None, *, address: Address | None = None) -> Exchange:
        """A verified connection."""
        host, port = address or self.address
        reader, writer = await asyncio.open_connection(host, port, ssl=context or self.client(), server_hostname=NAME)
        return Exchange(reader, writer)

    async def loaded(self, issued: Issued, *, since: int) -> None:
        """Wait until the node says that it has taken this certificate."""
        end = issued.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        await self.node.wait_log(
            lambda line: line.get("event") == "certificate_loaded" and line.get("not_after") == end, since=since
        )


class Exchange:
    """One connection over TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def tls(self) -> ssl.SSLObject:
        """The connection's TLS."""
        found = self._writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        return found

    @property
    def serial(self) -> int:
        """Serial number of the node's certificate."""
        certificate = self.tls.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)

    async def get(self) -> bytes:
        """The body of one answer, on this connection."""
        self._writer.write(f"GET /b HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert f"Content-Length: {len(BODY)}\r\n".encode() in head
            return await self._reader.readexactly(len(BODY))

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        await self._writer.wait_closed()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def issue(*, days_left: float) -> Issued:
    return PKI.issue(*NAMES, days=(-1, days_left))


def install(folder: Path, issued: Issued) -> None:
    write_pair(folder, issued.chain_pem, key_pem(issued.key))


@asynccontextmanager
async def running(directory: Path, first: Issued) -> AsyncIterator[Scene]:
    folder = directory / "tls"
    folder.mkdir()
    install(folder, first)
    async with Origin() as origin:
        origin.add("/b", Content(BODY, headers=FRESH))
        async with running_node(
            directory, allow=(f"http://{HOST}",), connect_to={HOST: origin.address}, config=CONFIG
        ) as node:
            yield Scene(node, folder)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running(tmp_path, issue(days_left=20)) as scene:
        yield scene


async def test_both_families_serve_over_tls_and_never_negotiate_h2(scene: Scene) -> None:
    for address in (scene.address, scene.v6):
        exchange = await scene.connect(address=address)
        assert exchange.tls.selected_alpn_protocol() == "http/1.1"
        assert exchange.tls.version() == "TLSv1.3"
        assert await exchange.get() == BODY
        await exchange.close()


async def test_a_client_that_speaks_h2_only_gets_none_and_old_versions_are_refused(scene: Scene) -> None:
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


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed_also_after_the_certificate_was_replaced(
    version: ssl.TLSVersion, scene: Scene
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
async def test_a_client_cannot_renegotiate(scene: Scene) -> None:
    host, port = scene.address
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-servername", NAME]
    done = await asyncio.to_thread(
        subprocess.run, command, input=b"R\n", capture_output=True, timeout=PATIENCE_S, check=False
    )
    output = done.stdout + done.stderr
    assert b"RENEGOTIATING" in output
    assert b"no renegotiation" in output


Swap = Callable[[Path, Issued], None]


def rename_over(folder: Path, issued: Issued) -> None:
    """As an ACME client's hook does: one file, then the other."""
    replace(folder / "node.pem", issued.chain_pem)
    replace(folder / "node.key", key_pem(issued.key))


def swap_links(folder: Path, issued: Issued) -> None:
    """As Kubernetes does: a new folder, and one link renamed over the old one."""
    version = folder / f"v{issued.serial}"
    version.mkdir()
    install(version, issued)
    (folder / "data.new").symlink_to(version.name)
    os.replace(folder / "data.new", folder / "data")
    for name in ("node.pem", "node.key"):
        if not (folder / name).is_symlink():
            (folder / "link.new").symlink_to(f"data/{name}")
            os.replace(folder / "link.new", folder / name)


def write_slowly(folder: Path, issued: Issued) -> None:
    """In place and bit by bit, which no one should do."""
    for name, data in (("node.key", key_pem(issued.key)), ("node.pem", issued.chain_pem)):
        path = (folder / name).resolve()
        path.write_bytes(data[: len(data) // 2])
        path.write_bytes(data)


async def test_replaced_certificates_are_picked_up_under_traffic_without_a_failed_request(scene: Scene) -> None:
    stop = asyncio.Event()
    counts: list[int] = []
    serials: set[int] = set()

    async def steady() -> None:
        exchange, done = await scene.connect(), 0
        while not stop.is_set():
            assert await exchange.get() == BODY
            done += 1
        counts.append(done)
        await exchange.close()

    async def coming_and_going() -> None:
        context, done = scene.client(), 0
        while not stop.is_set():
            exchange = await scene.connect(context)
            assert await exchange.get() == BODY
            serials.add(exchange.serial)
            await exchange.close()
            done += 1
        counts.append(done)

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as clients:
        for work in (steady, steady, steady, coming_and_going):
            clients.create_task(work())
        made = []
        for number, swap in enumerate((rename_over, swap_links, swap_links, write_slowly)):
            new, since = issue(days_left=30 + number), len(scene.node.log)
            made.append(new)
            swap(scene.folder, new)
            await scene.loaded(new, since=since)
            await asyncio.sleep(0.7)  # traffic on each certificate: what is measured here is time
        stop.set()
    elapsed_s = time.monotonic() - began_s
    assert sum(counts) >= 200 * elapsed_s
    assert {issued.serial for issued in made} <= serials
    metrics = await scene.node.metrics()
    end_s = made[-1].certificate.not_valid_after_utc.timestamp()
    shown = [s for s in metrics.samples if s.name == "cacheserver_certificate_not_after_timestamp_seconds"]
    assert [(sample.labels, sample.value) for sample in shown] == [({"name": "node.pem"}, end_s)]


async def test_trouble_with_the_files_keeps_the_old_certificate_and_is_one_line(scene: Scene) -> None:
    before = (await scene.node.status())["certificate"]
    troubles = [
        (PKI.issue("other.example.test"), None, "is not for"),
        (PKI.issue(*NAMES, days=(-9, -2)), None, "expired"),
        (issue(days_left=9), issue(days_left=9).key, "does not belong"),
    ]
    for issued, other_key, words in troubles:
        since = len(scene.node.log)
        write_pair(scene.folder, issued.chain_pem, key_pem(other_key or issued.key))
        line = await scene.node.wait_log(lambda line: line.get("event") == "certificate_refused", since=since)
        assert words in line["reason"]
        exchange = await scene.connect()
        assert await exchange.get() == BODY
        await exchange.close()
    since = len(scene.node.log)
    scene.node.reload()
    line = await scene.node.wait_log(lambda line: line.get("event") == "reload_refused", since=since)
    assert "does not belong" in line["reason"]
    status = (await scene.node.status())["certificate"]
    assert status["fingerprint_sha256"] == before["fingerprint_sha256"]
    assert "does not belong" in status["refused"]
    refused = [line for line in scene.node.log if line.get("event") == "certificate_refused"]
    assert len(refused) == len(troubles)


async def test_sighup_takes_a_new_pair_and_drops_no_connection(scene: Scene) -> None:
    exchange = await scene.connect()
    new, since = issue(days_left=40), len(scene.node.log)
    install(scene.folder, new)
    scene.node.reload()
    await scene.loaded(new, since=since)
    await scene.node.wait_log(lambda line: line.get("event") == "reloaded", since=since)
    assert await exchange.get() == BODY
    assert exchange.serial != new.serial
    await exchange.close()
    later = await scene.connect()
    assert later.serial == new.serial
    await later.close()


async def test_a_node_starts_with_an_expired_certificate_and_warns(tmp_path: Path) -> None:
    async with running(tmp_path, PKI.issue(*NAMES, days=(-9, -1))) as scene:
        line = await scene.node.wait_log(lambda line: line.get("event") == "certificate_warning")
        assert "expired" in line["reason"]
        (warning,) = (await scene.node.status())["certificate"]["warnings"]
        assert "expired" in warning


async def test_a_node_without_a_usable_pair_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    write_pair(folder, issue(days_left=9).chain_pem, key_pem(issue(days_left=9).key))
    config = tmp_path / "node.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "cacheserver", "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
    command += ["--admin-listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache")]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=PATIENCE_S, check=False, text=True
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"cacheserver: error: {folder}/node.pem: tls.certificate: does not belong to tls.key")
