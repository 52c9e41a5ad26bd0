"""Faults of network, origins, certificate and answers: each spoils the lab for a while, or what the doctor is given."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from cacheserver.doctor.known_urls import TEST_URLS
from tests.doctor.faults_of_machine import Case
from tests.doctor.lab import ENDPOINT, NAME, Lab, content_of, leaf_files
from tests.support.certificates import Authority
from tests.support.content import Content, Fault
from tests.support.origin import Origin
from tests.trust.ground import running, says

GIF = TEST_URLS[0]


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


@asynccontextmanager
async def answering_admin(lab: Lab, ready: Content, status: bytes = b"{}") -> AsyncIterator[Case]:
    """An admin listener that says this."""
    async with Origin() as admin:
        admin.add("/readyz", ready)
        admin.add("/api/v1/status", Content(status))
        settings = lab.settings()
        listen = msgspec.structs.replace(settings.admin, listen=admin.address)
        yield Case(msgspec.structs.replace(settings, admin=listen), run={"groups": ("health",)})


def admin_refuses(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return answering_admin(lab, Content(b'{"error":"a bearer token is required"}', status=401))


def node_not_ready(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return answering_admin(lab, Content(b'{"ready":false,"reasons":["no volume is online"]}', status=503))


def sources_banned(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    banned = b'{"version":"1","banned_sources":[{"source":"http://bad.example:80","seconds_left":5}]}'
    return answering_admin(lab, Content(b'{"ready":true}'), banned)


def not_an_admin_listener(lab: Lab, _folder: Path) -> AbstractAsyncContextManager[Case]:
    return answering_admin(lab, Content(b"[1]", status=404), b"\xff")
