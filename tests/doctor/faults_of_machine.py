"""Faults of machine, disks and clock: each spoils the lab, or what the doctor is given, and puts it right again."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cacheserver.core.units import Size
from cacheserver.doctor.known_urls import TEST_URLS
from cacheserver.settings.schema import Settings
from cacheserver.store.options import VolumeOptions
from tests.doctor.lab import Lab, content_of
from tests.support.content import http_date


@dataclass
class Case:
    """What one run of the doctor is given."""

    settings: Settings
    options: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


def with_volume(settings: Settings, path: Path) -> Settings:
    store = msgspec.structs.replace(settings.store, volumes=(VolumeOptions(path=str(path), max_size=Size("64MiB")),))
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
    volume = VolumeOptions(path=str(folder), max_size=Size("900TiB"))
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
