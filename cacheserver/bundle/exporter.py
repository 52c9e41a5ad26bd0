"""From a stopped node's volumes into a bundle.

Owns: which objects are fit to be exported: complete, and every piece as recorded. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cacheserver.bundle.header import BundledObject, shown_name
from cacheserver.bundle.selection import Selection
from cacheserver.bundle.volumes import open_object, stored_ids
from cacheserver.bundle.writer import BundleWriter
from cacheserver.core.errors import DiskError, PieceMismatch
from cacheserver.core.piece_map import PRESENT
from cacheserver.core.units import format_size
from cacheserver.store.object.file import ObjectFile, disk_errors
from cacheserver.store.object.rebuilt_manifest import PIECE_BYTES, manifest_of, recorded_digests
from cacheserver.store.volume import Volume

Tell = Callable[[str], None]


@dataclass(slots=True)
class ExportReport:
    """What an export did."""

    exported: int = 0
    body_bytes: int = 0
    incomplete: int = 0
    damaged: int = 0
    seen: set[str] = field(default_factory=set)


class Exporter:
    """Writes the selected objects of some volumes into one bundle."""

    def __init__(self, *, volumes: Sequence[Volume], writer: BundleWriter, tell: Tell) -> None:
        self._volumes = volumes
        self._writer = writer
        self._tell = tell
        self.report = ExportReport()

    def export(self, selection: Selection) -> ExportReport:
        """Export what is selected; one line is told for each object left out. Raises DiskError."""
        for volume in self._volumes:
            ids = selection.only_ids
            for object_id in stored_ids(volume) if ids is None else ids:
                if object_id in self.report.seen:
                    continue
                file = open_object(volume, object_id)
                if file is None:
                    continue
                try:
                    if selection.names(file.representation):
                        self._consider(file)
                finally:
                    file.close()
        return self.report

    def _consider(self, file: ObjectFile) -> None:
        name = shown_name(file.representation)
        if not file.pieces.complete:
            there = format_size(file.pieces.stored_bytes)
            self._tell(f"{name}: left out: only {there} of {format_size(file.layout.length_bytes)} are here")
            self.report.incomplete += 1
            return
        try:
            bundled = _checked(file)
            self._writer.add(bundled, _pieces(file))
        except (PieceMismatch, _Unreadable) as exc:
            self._tell(f"{name}: left out: {exc}")
            self.report.damaged += 1
            return
        self.report.seen.add(file.representation.object_id)
        self.report.exported += 1
        self.report.body_bytes += file.layout.length_bytes


class _Unreadable(Exception):
    """The object's own disk failed, not the bundle's."""


def _checked(file: ObjectFile) -> BundledObject:
    """The object's metadata after every piece was hashed; PieceMismatch, _Unreadable."""
    try:
        for piece in range(len(file.pieces)):
            file.check_piece(piece)
            file.pieces.mark(piece, PRESENT)
        digests = recorded_digests(file)
        if digests is None:
            raise _Unreadable("the record of a piece is missing")
        rebuilt = len(file.pieces) > 0 and file.layout.piece_size_bytes == PIECE_BYTES
        return BundledObject(file.representation, digests, manifest_of(file) if rebuilt else None)
    except DiskError as exc:
        raise _Unreadable(str(exc)) from exc


def _pieces(file: ObjectFile) -> Iterator[bytes]:
    """The bytes, piece by piece; they are hashed again on their way into the bundle."""
    for piece in range(len(file.pieces)):
        start, stop = file.pieces.bounds(piece)
        parts = []
        try:
            with disk_errors("read"):
                while start < stop and (data := os.pread(file.fd, stop - start, start)):
                    parts.append(data)
                    start += len(data)
        except DiskError as exc:
            raise _Unreadable(str(exc)) from exc
        yield b"".join(parts)
