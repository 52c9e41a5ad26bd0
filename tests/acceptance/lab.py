"""The laboratory of the acceptance runs: a node between an nginx origin and real programs, and what each run cost.

Owns starting programs, comparing digests and counting. Must not know any one program's options.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.nginx_origin import NginxOrigin, Served, running_nginx
from tests.support.ground import DO_HOST
from tests.support.node import Metrics, Node, running_node

OWN_HOST = "downloads.example.test"
PACKAGES_HOST = "packages.example.test"
COMMAND_TIMEOUT_S = 120.0
SERVICES = """\
[services.index]
hosts = ["127.0.0.1"]
port = {port}
"""
"""An index server that is asked by address: its own port, and permission for that one address."""


class ClientFailed(AssertionError):
    """A program did not do what it was asked to do, or got wrong bytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of a program over a set of files: what it cost the origin and what the node called it."""

    name: str
    files: int
    file_bytes: int
    origin_requests: int
    origin_bytes: int
    """Body bytes of payload files that the origin sent."""
    outcomes: Mapping[str, int]


@dataclass(slots=True)
class Case:
    """What one program did: its commands as typed and its runs."""

    title: str
    program: str
    commands: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Lab:
    """Origin, node and a working directory."""

    def __init__(self, *, origin: NginxOrigin, node: Node, directory: Path) -> None:
        self.origin = origin
        self.node = node
        self.directory = directory
        self.digests: dict[str, str] = {}
        """Payload path at the origin → SHA-256, from the files themselves."""
        self.sizes: dict[str, int] = {}

    @property
    def node_url(self) -> str:
        """``http://address:port`` of the content listener."""
        return f"http://{self.node_address}"

    @property
    def node_address(self) -> str:
        """``address:port`` of the content listener."""
        return f"{self.node.content[0]}:{self.node.content[1]}"

    def add(self, path: str, source: Path) -> str:
        """Let the origin serve ``source`` at ``path``, with an age that makes its date a strong validator."""
        place = self.origin.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        os.utime(place, (1.7e9, 1.7e9))
        self.digests[path], self.sizes[path] = sha256_of(place), place.stat().st_size
        return path

    def folder(self, name: str) -> Path:
        """A new directory for one run."""
        made = self.directory / name
        made.mkdir(parents=True)
        return made

    def shown(self, text: str) -> str:
        """Without what differs from run to run and from machine to machine."""
        text = text.replace(str(self.directory), "$DIR").replace(sys.executable, "python")
        return text.replace(self.node_address, "NODE").replace(self.origin.address, "ORIGIN")

    async def command(
        self, case: Case, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end and return what it printed; ClientFailed when it is not content."""
        words = [str(word) for word in argv]
        shown = self.shown(" ".join(_quoted(word) for word in words))
        if shown not in case.commands:
            case.commands.append(shown)
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=cwd,
            env=_environment(cwd, env or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            raise ClientFailed(f"{shown}: not done within {COMMAND_TIMEOUT_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode("utf-8", "replace")
        if process.returncode:
            raise ClientFailed(f"{shown}: exit {process.returncode}\n{text[-2000:]}")
        return text

    def check(self, path: str, got: Path) -> None:
        """Compare a downloaded file with the origin's."""
        if sha256_of(got) != self.digests[path]:
            raise ClientFailed(f"{path}: {got.stat().st_size} bytes with a wrong digest")

    @asynccontextmanager
    async def run(self, case: Case, name: str, paths: Sequence[str]) -> AsyncIterator[None]:
        """Count what the body costs."""
        before, metrics = len(await self.origin.served()), await self.node.metrics()
        yield
        lines = [line for line in (await self.origin.served())[before:] if line.path in paths]
        case.runs.append(
            Run(
                name=name,
                files=len(paths),
                file_bytes=sum(self.sizes[path] for path in paths),
                origin_requests=len(lines),
                origin_bytes=sum(line.body_bytes for line in lines if line.status in (200, 206)),
                outcomes=_outcomes(metrics, await self.node.metrics()),
            )
        )

    def expect_once_then_never(self, case: Case) -> None:
        """The first run cost the origin each byte once, and every other one nothing."""
        cold, *warm = case.runs
        if cold.origin_bytes != cold.file_bytes:
            raise ClientFailed(f"{case.title}: {cold.origin_bytes} bytes of the origin for {cold.file_bytes}")
        for run in warm:
            if run.origin_requests:
                raise ClientFailed(f"{case.title}, {run.name}: {run.origin_requests} requests to the origin")


@asynccontextmanager
async def running_lab(directory: Path) -> AsyncIterator[Lab]:
    """Origin and node, both ended and the node's log checked at the end."""
    root = directory / "files"
    root.mkdir(parents=True)
    async with running_nginx(root, directory / "nginx") as origin:
        port = int(origin.address.rpartition(":")[2])
        async with running_node(
            directory / "node",
            allow=(OWN_HOST, PACKAGES_HOST),
            connect_to=dict.fromkeys((OWN_HOST, PACKAGES_HOST, DO_HOST), origin.address),
            config=SERVICES.format(port=port),
            max_size="2GiB",
        ) as node:
            yield Lab(origin=origin, node=node, directory=directory)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _outcomes(before: Metrics, after: Metrics) -> dict[str, int]:
    found: dict[str, int] = {}
    name = "cacheserver_requests_total"
    for outcome in ("hit", "partial", "miss", "stale", "revalidated", "pass", "refused", "error"):
        earlier = before.total(name, outcome=outcome) if name in before.names() else 0
        later = after.total(name, outcome=outcome) if name in after.names() else 0
        if later > earlier:
            found[outcome] = int(later - earlier)
    return found


def _environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Of the caller's environment only the PATH: no proxies, no configuration of pip, no certificates."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C.UTF-8", **extra}


def _quoted(word: str) -> str:
    return f"'{word}'" if not word or any(char in ' ?&*;|<>"$' for char in word) else word


__all__ = ["Case", "ClientFailed", "Lab", "Run", "Served", "running_lab"]
