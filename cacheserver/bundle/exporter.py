"""From a stopped node's volumes into a bundle.

Owns: the meaning of a SELECTION, and which objects are fit for export: complete, each piece as recorded. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from cacheserver.bundle.header import BundledObject, shown_name
from cacheserver.bundle.volumes import open_object, stored_ids
from cacheserver.bundle.writer import BundleWriter
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import DiskError, PieceMismatch
from cacheserver.core.piece_map import PRESENT
from cacheserver.core.request.keys import is_object_id
from cacheserver.core.units import format_size
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.rebuilt_manifest import PIECE_BYTES, manifest_of, recorded_digests
from cacheserver.store.volume import Volume


@dataclass(slots=True)
class ExportReport:
    """What an export did."""

    exported: int = 0
    incomplete: int = 0
    damaged: int = 0


class Exporter:
    """Writes the selected objects of some volumes into one bundle."""

    def __init__(self, *, volumes: Sequence[Volume], writer: BundleWriter, tell: Callable[[str], None]) -> None:
        self._volumes = volumes
        self._writer = writer
        self._tell = tell
        self._exported: set[str] = set()
        self.report = ExportReport()

    def export(self, words: Sequence[str]) -> ExportReport:
        """Export the objects that ``words`` select; print one line for each object left out. Raises DiskError."""
        only_ids = all(is_object_id(word) for word in words)  # no other file needs to be opened then
        for volume in self._volumes:
            for object_id in words if only_ids else stored_ids(volume):
                file = None if object_id in self._exported else open_object(volume, object_id)
                if file is None:
                    continue
                try:
                    if selected(file.representation, words):
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
            self._writer.add(_checked(file), _pieces(file))
        except (PieceMismatch, _Unreadable) as exc:
            self._tell(f"{name}: left out: {exc}")
            self.report.damaged += 1
            return
        self._exported.add(file.representation.object_id)
        self.report.exported += 1


def selected(representation: Representation, words: Sequence[str]) -> bool:
    """Whether a word fits: ``all``, the object id, the service's name, or a glob over ``host/path``.

    In a glob ``*`` and ``?`` match ``/`` too; it is held against the escaped and the decoded path, with the host of the
    key (shards folded into one) and with the host that was asked.
    """
    if not {"all", representation.object_id, representation.service}.isdisjoint(words):
        return True
    asked = representation.origin.partition("://")[2] + representation.path_and_query.partition("?")[0]
    texts = {shown_name(representation), asked}
    texts |= {unquote(text) for text in texts}
    return any(fnmatchcase(text, glob) for glob in words for text in texts)


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
    try:
        yield from map(file.read_piece, range(len(file.pieces)))
    except DiskError as exc:
        raise _Unreadable(str(exc)) from exc
