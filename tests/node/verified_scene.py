"""One node that verifies, its origin and a mirror of it, for tests that watch one content closely.

Owns the wiring. Must not decide what is right.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.client import Response
from tests.support.content import Content, FieldLines, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST
from tests.support.manifests import manifest_of, phf, phf_path, signed_catalogue
from tests.support.node import Node, running_node
from tests.support.origin import Origin

PIECE = 1 << 16
SIZE = 3 * PIECE + 1234
BODY = blob(93, SIZE)
OTHER = blob(94, SIZE)
TAG = '"v1"'
OWN = "files.example.test"
UPDATES = "download.windowsupdate.com"
ANCHORED_GUID = "9d3e8a51-0c39-4f0b-8f3a-0f3c1d1e2a7b"
ANCHORED = f"/filestreamingservice/files/{ANCHORED_GUID}"
SIGNED_GUIDS = tuple(str(uuid.UUID(int=number)) for number in range(1, 9))
"""Contents that the catalogue binds to the manifest of ``BODY`` too."""
QUICK = """
[upstream]
connect_timeout_s = 1.0
head_timeout_s = 5.0
stall_timeout_s = 5.0
[fill]
backoff_s = 0.01
span_pieces = 1
linger_s = 0
{fill}
[store]
piece_size = "64KiB"
"""


def flipped(*offsets: int) -> bytes:
    """The body with all bits of these bytes inverted."""
    spoiled = bytearray(BODY)
    for offset in offsets:
        spoiled[offset] ^= 0xFF
    return bytes(spoiled)


def detail_of(response: Response) -> str | None:
    """The ``detail`` parameter of our member of Cache-Status."""
    member = (response.fields.value("Cache-Status") or "").split(",")[-1]
    found = [part.strip() for part in member.split(";") if part.strip().startswith("detail=")]
    return found[0].removeprefix("detail=") if found else None


@dataclass(slots=True)
class Scene:
    """A node, the origin of every host, and a mirror that only some services name."""

    node: Node
    origin: Origin
    mirror: Origin
    _shards: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def hold(self, body: bytes = BODY, *, path: str | None = None, manifest: bytes | None = None) -> str:
        """Put a content with the manifest of ``BODY`` (or other bytes in its place) on the origin; its path."""
        path = path or f"/filestreamingservice/files/{uuid.uuid4()}"
        self.put(path, body)
        self.origin.add(phf_path(path), Content(phf(BODY, PIECE) if manifest is None else manifest))
        return path

    def put(self, path: str, body: bytes, *headers: tuple[str, str]) -> None:
        """Other bytes under the same tag."""
        self.origin.add(path, Content(body, etag=TAG, headers=headers))

    def shard(self) -> str:
        """A host of the same service that nobody has asked yet."""
        return f"{next(self._shards)}.tlu.{DO_HOST}"

    async def get(self, path: str, *headers: tuple[str, str], host: str = DO_HOST) -> Response:
        """Ask as a cache host's client."""
        return await self.node.get(f"{path}?cacheHostOrigin={host}", headers)

    async def counted(self, name: str, **labels: str) -> float:
        """A counter; 0 where it has not counted anything yet."""
        try:
            return (await self.node.metrics()).total(f"cacheserver_{name}", **labels)
        except KeyError:
            return 0.0

    async def until_counted(self, count: float, name: str, **labels: str) -> None:
        """Wait until a counter has come that far."""

        async def reached() -> bool:
            return await self.counted(name, **labels) >= count

        await eventually(reached)

    async def banned(self) -> list[str]:
        """The sources that the admin API shows as banned."""
        return [entry["source"] for entry in (await self.node.status())["banned_sources"]]

    async def until_idle(self) -> None:
        """Wait until no fill is in flight."""

        async def idle() -> bool:
            return await self.counted("fills_in_flight") == 0

        await eventually(idle)


@asynccontextmanager
async def verifying(
    directory: Path, *, fill: str = "", services: str = "", hosts: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """A running scene. ``services`` is TOML in which ``@MIRROR@`` stands for the mirror's address and port.

    ``hosts``: more names, and the address that each leads to; empty: the origin.
    """
    async with Origin() as origin, Origin() as mirror:
        names = (DO_HOST, UPDATES, OWN, *(f"{number}.tlu.{DO_HOST}" for number in range(1, 30)))
        connect_to = dict.fromkeys(names, origin.address)
        connect_to |= {host: address or origin.address for host, address in (hosts or {}).items()}
        config = QUICK.format(fill=fill) + signed_catalogue(
            directory, dict.fromkeys((ANCHORED_GUID, *SIGNED_GUIDS), manifest_of(BODY, PIECE))
        )
        config += services.replace("@MIRROR@", mirror.address)
        async with running_node(directory, connect_to=connect_to, config=config) as node:
            yield Scene(node, origin, mirror)


def headers_of(*lines: tuple[str, str]) -> FieldLines:
    """Fresh for an hour, and these."""
    return (("Cache-Control", "max-age=3600"), *lines)
