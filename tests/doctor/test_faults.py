"""The doctor names each fault: a healthy lab with one thing wrong, and the line that must say so.

Each fault is an async context manager that spoils the lab (or the settings and options that the doctor gets) and puts
it right again; the table says which line must name it.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cacheserver.doctor.check import Check
from cacheserver.doctor.known_urls import TEST_URLS
from cacheserver.settings import Settings
from cacheserver.store.options import VolumeOptions
from tests.doctor.lab import ENDPOINT, NAME, Lab, content_of, leaf_files
from tests.support.certificates import Authority
from tests.support.content import Fault, http_date
from tests.support.origin import Origin
from tests.trust.ground import running, says

pytestmark = pytest.mark.asyncio(loop_scope="module")
GIF = TEST_URLS[0]


@dataclass
class Case:
    """What one run of the doctor is given."""

    settings: Settings
    options: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


Spoil = Callable[[Lab, Path], AbstractAsyncContextManager[Case]]


def with_volume(settings: Settings, path: Path) -> Settings:
    store = msgspec.structs.replace(settings.store, volumes=(VolumeOptions(path=str(path), max_size="64MiB"),))
    return msgspec.structs.replace(settings, store=store)


def with_listen(settings: Settings, *listen: str) -> Settings:
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, listen=listen))


def needs_root() -> None:
    if os.geteuid():
        pytest.skip("needs root")


# -- machine --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def port_taken(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = with_listen(lab.settings(), f"127.0.0.1:{other.getsockname()[1]}")
        yield Case(settings, run={"groups": ("health",)})


@asynccontextmanager
async def node_down(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    settings = lab.settings()
    server = msgspec.structs.replace(settings.server, listen=(address,), listen_tls=())
    settings = msgspec.structs.replace(settings, server=server)
    yield Case(msgspec.structs.replace(settings, admin=msgspec.structs.replace(settings.admin, listen=address)))


@asynccontextmanager
async def few_descriptors(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    pid = lab.node.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, hard))
    try:
        yield Case(lab.settings())
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


# -- disks ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def directory_of_another_user(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    needs_root()
    os.chown(folder, 54_321, 54_321)
    yield Case(with_volume(lab.settings(), folder))


@asynccontextmanager
async def directory_without_permission(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    folder.chmod(0o500)
    yield Case(with_volume(lab.settings(), folder))
    folder.chmod(0o700)


@contextmanager
def tmpfs(folder: Path, *, read_only: bool = False) -> Iterator[None]:
    """A tmpfs of 8 MiB at ``folder``."""
    needs_root()
    command = ["mount", "-t", "tmpfs", "-o", f"size=8m,mode=700{',ro' if read_only else ''}", "tmpfs", str(folder)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@asynccontextmanager
async def disk_full(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    with tmpfs(folder):
        (folder / "filler").write_bytes(bytes(7 << 20))
        yield Case(with_volume(lab.settings(), folder))


@asynccontextmanager
async def disk_read_only(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    with tmpfs(folder, read_only=True):
        yield Case(with_volume(lab.settings(), folder))


@asynccontextmanager
async def disk_too_small(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    settings = with_volume(lab.settings(), folder)
    volume = VolumeOptions(path=str(folder), max_size="900TiB")
    yield Case(msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, volumes=(volume,))))


# -- clock ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def clock_a_year_off(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    later = http_date(time.time() + 400 * 86_400)
    for url in TEST_URLS:
        lab.origin.add(url.path, content_of(url, headers=(("Date", later),)))
    yield Case(lab.settings())
    for url in TEST_URLS:
        lab.origin.add(url.path, content_of(url))


@asynccontextmanager
async def own_clock_an_hour_off(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(), run={"wall_s": lambda: time.time() + 3600})


# -- network --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def name_without_address(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    more = "[services.mine]\nhosts = ['files.nowhere.invalid']\n"
    yield Case(lab.settings(more=more), {"services": ("mine",)})


@asynccontextmanager
async def private_address(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    more = "[services.mine]\nhosts = ['localhost']\n"
    yield Case(lab.settings(more=more), {"services": ("mine",)})


@asynccontextmanager
async def connection_refused(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield Case(lab.settings(connect_to={"dl.delivery.mp.microsoft.com": f"127.0.0.1:{port}"}))


@asynccontextmanager
async def peer_refuses(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield Case(lab.settings(), {"peers": (f"127.0.0.1:{port}",)})


@asynccontextmanager
async def loop(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    own = f"127.0.0.1:{lab.node.content[1]}"
    yield Case(lab.settings(connect_to={"download.windowsupdate.com": own}))


@asynccontextmanager
async def loop_through_another_address(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    """Something passes the request on to this node; only Via tells."""
    token = (lab.node.cache_dir / "node-id").read_text()
    lab.origin.add(GIF.path, content_of(GIF, headers=(("Via", f"1.1 cacheserver-{token}"),)))
    yield Case(lab.settings())
    lab.origin.add(GIF.path, content_of(GIF))


@asynccontextmanager
async def proxy_in_environment(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(), {"environment": {"https_proxy": "http://user:secret@proxy.example:3128/x?y"}})


# -- origins --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def spoiled(lab: Lab, fault: Fault) -> AsyncIterator[Case]:
    lab.origin.fault(GIF.path, always=fault)
    try:
        yield Case(lab.settings())
    finally:
        lab.origin.heal(GIF.path)


def range_ignored(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault(ignore_range=True))


def range_shifted(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault(range_shift=1))


def portal_redirects(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault.redirecting("http://login.hotel.example/welcome?session=1"))


def portal_asks_for_a_login(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault(status=200, headers=(("Content-Type", "text/html"),), without=("content-type",)))


def origin_refuses(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault.refusing(403))


def origin_breaks_off(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return spoiled(lab, Fault(close_before_head=True))


@asynccontextmanager
async def tls_is_inspected(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    stranger = Authority(folder)
    async with running(stranger.server_context(name=ENDPOINT), says("")) as service:
        port = service.url.rpartition(":")[2]
        yield Case(lab.settings(connect_to={f"{ENDPOINT}:443": f"127.0.0.1:{port}"}))


# -- the node's certificate and answers -----------------------------------------------------------------------------


@asynccontextmanager
async def certificate_expired(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(leaf=leaf_files(lab.authority, lab.folder, days=(-30, -2))))


@asynccontextmanager
async def certificate_expires_soon(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(leaf=leaf_files(lab.authority, lab.folder, days=(-30, 3))))


@asynccontextmanager
async def certificate_for_another_name(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(), {"names": (NAME, "updates.example.com")})


@asynccontextmanager
async def certificate_not_taken_up(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(leaf=leaf_files(lab.authority, lab.folder)))


@asynccontextmanager
async def key_of_another_certificate(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    settings = lab.settings()
    tls = msgspec.structs.replace(settings.tls, key=leaf_files(lab.authority, lab.folder))
    yield Case(msgspec.structs.replace(settings, tls=tls))


@asynccontextmanager
async def certificate_not_trusted(lab: Lab, folder: Path) -> AsyncIterator[Case]:
    yield Case(lab.settings(), {"ca_file": Authority(folder).ca_file})


@asynccontextmanager
async def answering_node(lab: Lab, content: Any) -> AsyncIterator[Case]:
    """Another node, which answers the first test URL with ``content``."""
    async with Origin() as other:
        for url in TEST_URLS:
            other.add(url.path, content_of(url))
        other.add(GIF.path, content)
        yield Case(lab.settings(), {"nodes": (f"127.0.0.1:{other.port}",)})


def wrong_length(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return answering_node(lab, content_of(GIF, length_bytes=GIF.length_bytes - 1))


def wrong_type(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return answering_node(lab, content_of(GIF, headers=(("Content-Type", "text/plain"),)))


@asynccontextmanager
async def node_by_a_name_that_its_certificate_lacks(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    settings = lab.settings(connect_to={"updates.example.com": f"127.0.0.1:{lab.tls_port}"})
    yield Case(settings, {"nodes": ("https://updates.example.com",)})


@asynccontextmanager
async def listener_on_loopback_only(lab: Lab, _folder: Path) -> AsyncIterator[Case]:
    settings = lab.settings()
    server = msgspec.structs.replace(
        settings.server, listen=(f"127.0.0.1:{lab.node.content[1]}",), listen_tls=(f"127.0.0.1:{lab.tls_port}",)
    )
    yield Case(msgspec.structs.replace(settings, server=server))


FAULTS: list[tuple[Spoil, str, str, str]] = [
    (port_taken, "port", "fail", "port taken: held by"),
    (node_down, "port", "fail", "the node is down"),
    (node_down, "node", "fail", "the node is down: Connection refused"),
    (node_down, "test-url", "fail", "Connection refused"),
    (few_descriptors, "descriptors", "fail", "400, enough for 0 clients"),
    (directory_of_another_user, "disk-owner", "fail", "belongs to another user: 54321"),
    (directory_without_permission, "disk-owner", "fail", "mode 0500"),
    (disk_full, "disk-space", "fail", "the disk is full"),
    (disk_read_only, "disk-space", "fail", "read-only"),
    (disk_too_small, "disk-space", "warn", "less than max_size"),
    (clock_a_year_off, "clock", "fail", "1 years and 3"),
    (own_clock_an_hour_off, "clock", "fail", "ahead of"),
    (name_without_address, "dns", "fail", "files.nowhere.invalid cannot be resolved"),
    (private_address, "dns", "fail", "private addresses such as 127.0.0.1"),
    (connection_refused, "tcp", "fail", "dl.delivery.mp.microsoft.com: 127.0.0.1 port"),
    (connection_refused, "range", "fail", "Connection refused"),
    (peer_refuses, "peer", "fail", "Connection refused"),
    (loop, "loop", "fail", "download.windowsupdate.com lead back to this node"),
    (loop_through_another_address, "loop", "fail", "au.download.windowsupdate.com lead back to this node"),
    (proxy_in_environment, "proxy", "warn", "https_proxy=http://proxy.example:3128"),
    (range_ignored, "range", "fail", "Range is ignored"),
    (range_shifted, "range", "fail", "wrong range: Content-Range bytes 1-10/969710"),
    (portal_redirects, "portal", "fail", "a portal or filter answers: au.download.windowsupdate.com: 302"),
    (portal_asks_for_a_login, "portal", "fail", "200 text/html"),
    (origin_refuses, "range", "fail", "answers 403 to the test URL"),
    (origin_breaks_off, "range", "fail", "Server disconnected"),
    (tls_is_inspected, "endpoint", "fail", "certificate refused"),
    (certificate_expired, "certificate", "fail", "expired on"),
    (certificate_expires_soon, "certificate", "warn", "expires in 2 days"),
    (certificate_for_another_name, "names", "fail", "updates.example.com not among cache.example.com"),
    (certificate_not_taken_up, "handshake", "warn", "presents another certificate"),
    (key_of_another_certificate, "certificate", "fail", "the key does not belong to the certificate"),
    (certificate_not_trusted, "handshake", "fail", "not trusted as cache.example.com"),
    (wrong_length, "test-url", "fail", "wrong length: 969709 bytes and not 969710"),
    (wrong_type, "test-url", "fail", "Content-Type text/plain and not image/gif"),
    (node_by_a_name_that_its_certificate_lacks, "test-url", "fail", "certificate refused"),
    (listener_on_loopback_only, "addresses", "warn", "this machine only"),
]


@pytest.mark.parametrize(
    ("spoil", "name", "level", "found"), FAULTS, ids=[f"{row[0].__name__}-{row[1]}" for row in FAULTS]
)
async def test_fault_is_named(spoil: Spoil, name: str, level: str, found: str, lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    async with spoil(lab, tmp_path) as case:
        checks = await lab.diagnosed(case.settings, lab.options(**case.options), **case.run)
    fitting = [check for check in checks if check.name == name and check.level == level]
    assert any(found in check.found for check in fitting), shown(checks)
    assert all(check.advice for check in fitting if found in check.found), "every fault says what to do"
    assert "secret" not in shown(checks)
    own_failures = [check for check in checks if "ended by" in check.found]
    assert not own_failures, shown(own_failures)


async def test_lab_is_healthy_again_after_all_faults(lab: Lab) -> None:
    checks = await lab.diagnosed()
    assert all(check.level == "ok" for check in checks), shown(checks)


async def test_checks_that_hang_end_by_their_deadline_and_say_so(lab: Lab) -> None:
    gate = lab.origin.gate(GIF.path)
    began = time.monotonic()
    try:
        checks = await lab.diagnosed(groups=("health",), deadline_s=0.5)
    finally:
        gate.open()
    assert time.monotonic() - began < 10
    hung = {check.name for check in checks if "no result within 0.5 s" in check.found}
    assert hung >= {"range", "portal", "clock"}
    assert any(check.name == "disk-space" and check.level == "ok" for check in checks)


def shown(checks: list[Check]) -> str:
    return "\n" + "\n".join(check.line() for check in checks if check.level != "ok")
