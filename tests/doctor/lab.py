"""A site in small: origins for every host that the node knows, the HTTPS service, and a node with TLS.

Owns the wiring. Faults are the tests'.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from cacheserver.doctor.check import Check, Group
from cacheserver.doctor.context import DoctorOptions
from cacheserver.doctor.known_urls import TEST_URLS, KnownUrl
from cacheserver.doctor.run import GROUPS, diagnose
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings
from cacheserver.settings.shipped import load_shipped_services
from tests.support.certificates import Authority
from tests.support.content import Content, FieldLines
from tests.support.node import Node
from tests.support.origin import Origin
from tests.trust.ground import running

ENDPOINT = "cp501.prod.do.dsp.mp.microsoft.com"
NAME = "cache.example.com"
_PORT = re.compile(r":(\d+)")


def content_of(url: KnownUrl, *, length_bytes: int | None = None, headers: FieldLines = ()) -> Content:
    """What an origin holds at a test URL."""
    kind = url.content_type or "application/octet-stream"
    body = bytes(url.length_bytes if length_bytes is None else length_bytes)
    return Content(body, headers=(("Content-Type", kind), *headers))


def hosts() -> list[str]:
    """Every host name that the doctor looks at without being told."""
    names = [host for service in load_shipped_services() for host in service.hosts if not host.startswith("*.")]
    return [*names, *(url.origin for url in TEST_URLS)]


def leaf_files(authority: Authority, folder: Path, *, name: str = NAME, days: tuple[int, int] = (-1, 30)) -> str:
    """A PEM file with certificate and key, mode 0600."""
    known = set(folder.glob("leaf-*.pem"))
    authority.server_context(name=name, days=days)
    (made,) = set(folder.glob("leaf-*.pem")) - known
    made.chmod(0o600)
    return str(made)


def toml(table: str, values: Mapping[str, str]) -> str:
    """One table of strings."""
    return f"[{table}]\n" + "".join(f'"{key}" = "{value}"\n' for key, value in values.items())


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything that is right; ``config`` is the text of the doctor's settings file."""

    folder: Path
    authority: Authority
    origin: Origin
    node: Node
    tls_port: int
    connect_to: dict[str, str]
    leaf: str

    def config(self, *, connect_to: Mapping[str, str] | None = None, leaf: str = "", more: str = "") -> str:
        """The node's settings with the addresses that it got."""
        return (
            f"[server]\nlisten = ['0.0.0.0:{self.node.content[1]}']\nlisten_tls = ['0.0.0.0:{self.tls_port}']\n"
            f"[admin]\nlisten = '127.0.0.1:{self.node.admin[1]}'\n"
            f"[[store.volumes]]\npath = '{self.node.cache_dir}'\nmax_size = '64MiB'\n"
            + toml("trust", {"ca_file": self.authority.ca_file})
            + toml("tls", dict.fromkeys(("certificate", "key"), leaf or self.leaf))
            + toml("upstream.connect_to", {**self.connect_to, **(connect_to or {})})
            + more
        )

    def settings(self, **changes: Any) -> Settings:
        """The settings of ``config``."""
        path = self.folder / "doctor.toml"
        path.write_text(self.config(**changes))
        return load_settings(str(path), Flags())

    def options(self, **changes: Any) -> DoctorOptions:
        """What makes the doctor content here."""
        known: dict[str, Any] = {"names": (NAME,), "ca_file": self.authority.ca_file}
        return DoctorOptions(**{**known, **changes})

    async def diagnosed(
        self,
        settings: Settings | None = None,
        options: DoctorOptions | None = None,
        groups: tuple[Group, ...] = GROUPS,
        **changes: Any,
    ) -> list[Check]:
        """One run of the doctor in this process."""
        found = await diagnose(settings or self.settings(), options or self.options(), groups, **changes)
        return list(found.checks)


def endpoint_answer() -> Any:
    """The HTTPS service: nothing at its root, which is answer enough."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404)

    return answer


@asynccontextmanager
async def running_lab(folder: Path) -> AsyncIterator[Lab]:
    """The lab; torn down at the end."""
    authority = Authority(folder)
    leaf = leaf_files(authority, folder)
    async with Origin() as origin, running(authority.server_context(name=ENDPOINT), endpoint_answer()) as service:
        for url in TEST_URLS:
            origin.add(url.path, content_of(url))
        connect_to = dict.fromkeys(hosts(), origin.address)
        connect_to[f"{ENDPOINT}:443"] = f"127.0.0.1:{_PORT.findall(service.url)[-1]}"
        config = (
            "[server]\nlisten = ['0.0.0.0:0']\nlisten_tls = ['0.0.0.0:0']\n[admin]\nlisten = '127.0.0.1:0'\n"
            + toml("tls", dict.fromkeys(("certificate", "key"), leaf))
            + toml("upstream.connect_to", connect_to)
        )
        node = Node(folder, ["--cache-dir", str(folder / "cache"), "--max-size", "64MiB"], config, dict(os.environ))
        await node.start()
        listening = next(line for line in node.log if line.get("event") == "listening")
        tls_port = int(_PORT.findall(str(listening["tls"]))[0])
        try:
            yield Lab(folder, authority, origin, node, tls_port, connect_to, leaf)
        finally:
            code = await node.stop()
        node.check_log()
        assert code == 0
