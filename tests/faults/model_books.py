"""Whether a node that is at rest is consistent: files, catalogue rows, ledger, blocks, descriptors.

Owns the readings from outside. Must not change anything.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.store import MARKER_BYTES
from tests.support.node import Node


@dataclass(frozen=True, slots=True)
class Books:
    """One reading of a node with one volume."""

    files: frozenset[str]
    strange: tuple[str, ...]
    """Names below objects/ that are no object's."""
    rows: frozenset[str]
    markers: frozenset[str]
    objects: int
    block_bytes: int
    """Of the object files, and what markers are charged."""
    stored_bytes: int
    reserved_bytes: int
    deleted: tuple[str, ...]
    """Descriptors of files that have no name any more."""
    fills: int
    errors: int
    """Failed calls that count as the drive's."""
    online: bool

    def differences(self, begun_bytes: int = 0) -> dict[str, str]:
        """What is not as it must be, by invariant.

        ``begun_bytes``: of pieces that may have been begun and not ended; each is charged as a whole.
        """
        return {
            "files = rows": _difference(self.files, self.rows),
            "objects = rows": "" if self.objects == len(self.rows) + len(self.markers) else self._counts(),
            "ledger = blocks": self._ledger(begun_bytes),
            "reserved 0": f"{self.reserved_bytes} bytes" if self.reserved_bytes else "",
            "no descriptors of deleted files": " ".join(self.deleted[:3]),
            "no strange files": " ".join(self.strange[:3]),
            "no fills": str(self.fills or ""),
            "drive without errors": str(self.errors or ""),
            "volume online": "" if self.online else "offline",
        }

    def _counts(self) -> str:
        return f"{self.objects} objects, {len(self.rows)} rows and {len(self.markers)} markers"

    def _ledger(self, begun_bytes: int) -> str:
        if 0 <= self.stored_bytes - self.block_bytes <= begun_bytes:
            return ""
        return f"{self.stored_bytes} bytes charged, {self.block_bytes} bytes taken"


async def balanced(node: Node, *, was_full: bool, within_s: float, begun_bytes: int = 0) -> Books:
    """The first reading without a difference; the last one when none is in time. A drive that was full had errors."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while True:
        books = await _read(node, was_full)
        if not any(books.differences(begun_bytes).values()) or loop.time() > until_s:
            return books
        await asyncio.sleep(0.25)  # rows are written a second after a change


async def _read(node: Node, was_full: bool) -> Books:
    """One reading."""
    status = await node.status()
    (volume,) = status["volumes"]
    rows, markers = _rows(node.cache_dir)
    files = list((node.cache_dir / "objects").glob("??/*"))
    names = {file.name for file in files}
    blocks = sum(map(_blocks, files))
    return Books(
        files=frozenset(name for name in names if len(name) == 32),
        strange=tuple(sorted(name for name in names if len(name) != 32)),
        rows=rows,
        markers=markers,
        objects=volume["objects"],
        block_bytes=blocks + MARKER_BYTES * len(markers),
        stored_bytes=volume["stored_bytes"],
        reserved_bytes=volume["reserved_bytes"],
        deleted=tuple(_deleted(node.process.pid)),
        fills=int((await node.metrics()).total("cacheserver_fills_in_flight")),
        errors=0 if was_full else volume["errors"],
        online=volume["online"] and volume["writable"],
    )


def _difference(files: Iterable[str], rows: Iterable[str]) -> str:
    files, rows = set(files), set(rows)
    if files == rows:
        return ""
    return f"{len(files)} files, {len(rows)} rows; without row {sorted(files - rows)}, file {sorted(rows - files)}"


def _rows(cache_dir: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of objects and of Vary markers in the catalogue."""
    objects: set[str] = set()
    markers: set[str] = set()
    with closing(sqlite3.connect(f"file:{cache_dir / 'catalogue' / 'cache.db'}?mode=ro", uri=True)) as database:
        for key, value in database.execute("SELECT key, value FROM Cache"):
            (markers if CatalogueRecord.decode(value).vary else objects).add(key)
    return frozenset(objects), frozenset(markers)


def _blocks(file: Path) -> int:
    try:
        return os.stat(file).st_blocks * 512
    except FileNotFoundError:
        return 0


def _deleted(pid: int) -> list[str]:
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if link.endswith(" (deleted)") and "/objects/" in link:
            links.append(link)
    return links
