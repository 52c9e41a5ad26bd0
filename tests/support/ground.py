"""One origin and one node in front of it, with the names that the black-box tests use.

Owns the wiring of a test ground. Must not decide what is right: that is what the tests do.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.client import Lines, Response
from tests.support.content import DERIVED, Content, FieldLines
from tests.support.node import Node, running_node
from tests.support.origin import Origin
from tests.support.repeats import Repeats

HOST = "cdn.example.test"
"""A host of the operator's own (``--allow``): RFC 9111 to the letter."""
OTHER_HOST = "mirror.example.test"
"""A second one."""
THIRD_HOST = "third.example.test"
"""Leads to the origin, but is not allowed until a test does so."""
DO_HOST = "dl.delivery.mp.microsoft.com"
"""A host of a shipped service whose paths are immutable and whose queries are tokens."""
SHARDS = (
    "9.tlu.dl.delivery.mp.microsoft.com",
    "2.tlu.dl.delivery.mp.microsoft.com",
    "download.windowsupdate.com",
    "au.download.windowsupdate.com",
    "b1.download.windowsupdate.com",
    "au.b1.download.windowsupdate.com",
)
PIECE = 1 << 20
FRESH = (("Cache-Control", "max-age=3600"),)


@dataclass(frozen=True, slots=True)
class GroundOptions:
    """How a module wants its ground; ``config`` is TOML text."""

    config: str = ""
    max_size: str = "1GiB"
    connect_to: dict[str, str] = field(default_factory=dict)
    """More hosts, besides the ones named here, which all lead to the origin."""
    module: str = "cacheserver"
    """What Python runs as the node."""
    env: dict[str, str] = field(default_factory=dict)


class Ground:
    """The origin, the node, and paths that no other test uses."""

    def __init__(self, origin: Origin, node: Node) -> None:
        self.origin = origin
        self.node = node
        self.repeats: Repeats | None = None
        """Where it is set, ``get`` and ``get_as_client`` repeat each plain warm hit by it."""
        self._numbers = itertools.count(1)

    def add(
        self,
        body: bytes,
        *,
        headers: FieldLines = FRESH,
        etag: str | None = DERIVED,
        last_modified: str | None = None,
        name: str = "file.bin",
    ) -> str:
        """Hold a content, fresh for an hour unless ``headers`` say otherwise, at a new path."""
        path = self.new_path(name)
        self.origin.add(path, Content(body, etag=etag, last_modified=last_modified, headers=headers))
        return path

    def new_path(self, name: str = "file.bin") -> str:
        """A path that was never asked for."""
        return f"/t{next(self._numbers)}/{name}"

    async def get(self, path: str, *headers: tuple[str, str], host: str = HOST, method: str = "GET") -> Response:
        """One request in Host form."""
        return await self._get(path, headers, host, method)

    async def get_as_client(self, path: str, *headers: tuple[str, str], host: str = HOST) -> Response:
        """One request in cache-host form."""
        mark = "&" if "?" in path else "?"
        return await self._get(f"{path}{mark}cacheHostOrigin={host}", headers, None, "GET")

    async def _get(self, target: str, headers: Lines, host: str | None, method: str) -> Response:
        response = await self.node.get(target, headers, host=host, method=method)
        if self.repeats is not None:
            await self.repeats.after(response, target, headers, host, method)
        return response


@asynccontextmanager
async def running_ground(directory: Path, options: GroundOptions) -> AsyncIterator[Ground]:
    """A ground that is torn down, and whose node is checked, at the end."""
    async with Origin() as origin:
        connect_to = (
            dict.fromkeys((HOST, OTHER_HOST, THIRD_HOST, DO_HOST, *SHARDS), origin.address) | options.connect_to
        )
        async with running_node(
            directory,
            allow=(HOST, OTHER_HOST),
            connect_to=connect_to,
            config=options.config,
            max_size=options.max_size,
            module=options.module,
            env=options.env,
        ) as node:
            yield Ground(origin, node)


def was_hit(response: Response) -> bool:
    """Whether the node says that it answered without going upstream (RFC 9211 §2.1)."""
    member = (response.fields.value("Cache-Status") or "").split(",")[-1]
    return "hit" in [parameter.strip() for parameter in member.split(";")[1:]]
