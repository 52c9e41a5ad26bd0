"""Certificates that are replaced under a running node: picked up under traffic, or refused once and kept out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.certificates import Issued, key_pem, replace, write_pair
from tests.support.ground import GroundOptions, running_ground
from tests.support.tls_scene import BODY, NAMES, PKI, TlsScene, install, issue, running


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[TlsScene]:
    async with running(tmp_path, issue(days_left=20)) as scene:
        yield scene


class Traffic:
    """Clients that ask all the time; one failed request fails the test."""

    def __init__(self, scene: TlsScene) -> None:
        self.requests = 0
        self.serials: set[int] = set()
        self.stop = asyncio.Event()
        self._scene = scene

    async def steady(self) -> None:
        """One connection for everything."""
        exchange = await self._scene.connect()
        while not self.stop.is_set():
            assert await exchange.get() == BODY
            self.requests += 1
        await exchange.close()

    async def coming_and_going(self) -> None:
        """A connection for each request."""
        context = self._scene.client()
        while not self.stop.is_set():
            exchange = await self._scene.connect(context)
            assert await exchange.get() == BODY
            self.serials.add(exchange.serial)
            self.requests += 1
            await exchange.close()


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


async def test_replaced_certificates_are_picked_up_under_traffic_without_a_failed_request(scene: TlsScene) -> None:
    traffic, made = Traffic(scene), []
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as clients:
        for work in (traffic.steady, traffic.steady, traffic.steady, traffic.coming_and_going):
            clients.create_task(work())
        for number, swap in enumerate((rename_over, swap_links, swap_links, write_slowly)):
            new, since = issue(days_left=30 + number), len(scene.node.log)
            made.append(new)
            swap(scene.folder, new)
            await scene.loaded(new, since=since)
            await asyncio.sleep(0.7)  # traffic on each certificate: what is measured here is time
        traffic.stop.set()
    assert traffic.requests >= 200 * (time.monotonic() - began_s)
    assert {issued.serial for issued in made} <= traffic.serials
    metrics = await scene.node.metrics()
    end_s = made[-1].certificate.not_valid_after_utc.timestamp()
    shown = [s for s in metrics.samples if s.name == "cacheserver_certificate_not_after_timestamp_seconds"]
    assert [(sample.labels, sample.value) for sample in shown] == [({"name": "node.pem"}, end_s)]


async def test_trouble_with_the_files_keeps_the_old_certificate_and_is_one_line(scene: TlsScene) -> None:
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


async def test_sighup_takes_a_new_pair_and_drops_no_connection(scene: TlsScene) -> None:
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


async def test_plain_http_does_not_go_down_with_a_failed_renewal(tmp_path: Path) -> None:
    (tmp_path / "node.pem").write_text("half a renewal")
    files = f'[tls]\ncertificate = "{tmp_path}/node.pem"\nkey = "{tmp_path}/node.key"\n'
    options = GroundOptions(config=f'[server]\nlisten_tls = ["127.0.0.1:0"]\n{files}')
    async with running_ground(tmp_path / "node", options) as ground:
        line = await ground.node.wait_log(lambda line: line.get("event") == "certificate_refused")
        assert str(tmp_path / "node.key") in line["reason"] or str(tmp_path / "node.pem") in line["reason"]
        assert (await ground.get(ground.add(b"plain"))).body == b"plain"
