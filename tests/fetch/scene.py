"""A content with its piece-hash file at local origins, and the fetch command run against them.

Owns the wiring of the fetch tests. Must not decide what is right.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cacheserver.cli import main as cli
from cacheserver.core.integrity.manifest import Manifest
from tests.support.content import Content, blob
from tests.support.origin import Origin

PIECE = 1 << 20
HOST = "dl.delivery.mp.microsoft.com"
PATH = "/filestreamingservice/files/52fa8751-747d-479d-8f22-e32730cc0eb1"
QUERY = "?P1=1700000000&P2=404&P3=2&P4=abc%2bdef%3d%3d"
URL = f"http://{HOST}{PATH}{QUERY}"
RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


def manifest_of(body: bytes, piece_bytes: int = PIECE) -> Manifest:
    """The manifest of a body."""
    pieces = (body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes))
    return Manifest(len(body), piece_bytes, b"".join(hashlib.sha256(piece).digest() for piece in pieces))


def b64(raw: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(raw).decode("ascii")


@dataclass(slots=True)
class Outcome:
    """What one run said."""

    code: int
    out: str
    err: str
    facts: dict[str, Any] = field(default_factory=dict)

    def source(self, address: str) -> dict[str, Any]:
        """The report on the source whose name ends so."""
        found = [each for each in self.facts["sources"] if each["source"].endswith(address)]
        assert len(found) == 1, self.facts
        return dict(found[0])


@dataclass(slots=True)
class Scene:
    """One content of ``size`` bytes, the origin that holds it, and a place for the file."""

    origin: Origin
    directory: Path
    capsys: pytest.CaptureFixture[str]
    body: bytes = b""

    @property
    def output(self) -> Path:
        """Where the file goes."""
        return self.directory / "out.bin"

    @property
    def hash_of_hashes(self) -> str:
        """Of the body, base64."""
        return b64(manifest_of(self.body).hash_of_hashes)

    @property
    def sha256(self) -> str:
        """Of the body, hex."""
        return hashlib.sha256(self.body).hexdigest()

    def hold(self, size: int, *, phf: bytes | None = None, seed: int = 1, etag: str | None = '"v1"') -> None:
        """Put a content and its manifest (``phf``: other bytes in its place) on the origin."""
        self.body = blob(seed, size)
        self.origin.add(PATH, Content(self.body, etag=etag))
        self.origin.add(f"{PATH}/pieceshash", Content(manifest_of(self.body).render() if phf is None else phf))

    def mirror(self, other: Origin, body: bytes | None = None) -> None:
        """Let another origin play a cache host of the content, or of another body."""
        other.add(PATH, Content(self.body if body is None else body, etag='"v1"'))

    async def fetch(self, *arguments: str, url: str = URL) -> Outcome:
        """Run the command with ``--json``."""
        self.capsys.readouterr()
        command = ["fetch", url, "-o", str(self.output), "--connect-to", f"{HOST}={self.origin.address}", "--json"]
        code = await asyncio.to_thread(cli.run, [*command, *arguments])
        captured = self.capsys.readouterr()
        return Outcome(code, captured.out, captured.err, json.loads(captured.out) if captured.out else {})

    def pieces_asked(self, origin: Origin) -> list[int]:
        """The pieces that an origin was asked for; every request must be for one whole, aligned piece."""
        pieces = []
        for record in origin.asked(PATH):
            found = RANGE.fullmatch(record.range or "")
            assert found is not None, record.range
            first, last = int(found[1]), int(found[2])
            assert first % PIECE == 0
            assert last + 1 == min(first + PIECE, len(self.body))
            pieces.append(first // PIECE)
        return pieces

    def written(self) -> bool:
        """Whether the file is there, right, and nothing unfinished beside it."""
        names = sorted(path.name for path in self.directory.iterdir())
        return names == ["out.bin"] and self.output.read_bytes() == self.body

    def nothing_written(self) -> bool:
        """Whether the file is not there."""
        return not self.output.exists()
