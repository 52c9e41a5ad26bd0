"""From a bundle into a stopped node's volumes.

Owns: the order of steps. Every piece of an object is hashed on its way into a file that no node would find; only when
all of them were right, written and synced does the file take its name, then its row. So a fault at any moment leaves
whole objects and nothing else; what a killed import left over is removed at the node's next start. Blocking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cacheserver.bundle.header import shown_name
from cacheserver.bundle.reader import BundleReader, Damaged, Found
from cacheserver.bundle.volumes import open_object
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import BundleError, CorruptObject, DiskError, PieceMismatch, StoreError, StoreFull
from cacheserver.core.request.keys import object_id
from cacheserver.core.units import several
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.ledger import Reservation
from cacheserver.store.object.file import ObjectFile, disk_errors
from cacheserver.store.object.layout import GENERATION_BYTES, layout_for
from cacheserver.store.object.rebuilt_manifest import recorded_digests
from cacheserver.store.placement import preferred_order
from cacheserver.store.store import MARKER_BYTES
from cacheserver.store.stored_object import VaryMarker
from cacheserver.store.volume import Volume
from cacheserver.system.atomic_file import sync_folder


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    imported: int = 0
    body_bytes: int = 0
    repaired: int = 0
    """Was here with pieces that had rotted, which are the bundle's now."""
    unchanged: int = 0
    kept: int = 0
    """Another generation is here, complete, and was not to be replaced."""
    damaged: int = 0
    stopped: str | None = None
    """Why the import ended early; None when it did not."""


class Importer:
    """Takes the objects of one bundle into some volumes."""

    def __init__(
        self, *, volumes: Sequence[Volume], reader: BundleReader, replace: bool, tell: Callable[[str], None]
    ) -> None:
        self._volumes = volumes
        self._reader = reader
        self._replace = replace
        self._tell = tell
        self.report = ImportReport()
        self._marked_s: dict[str, float] = {}
        """Primary keys at which this import has put something, and the time of the latest answer there."""

    def run(self) -> ImportReport:
        """Import everything that is sound; one line is told for each object that is not."""
        if self._reader.contents_fault is not None:
            self._tell(f"table of contents: {self._reader.contents_fault}; what can be found is checked one by one")
            self.report.damaged += 1
        for found in self._reader.objects():
            if isinstance(found, Damaged):
                self._damaged(f"object {found.number} {found.name}".rstrip(), found.reason)
                continue
            name = shown_name(found.bundled.representation)
            try:
                self._take(found)
            except (BundleError, CorruptObject) as exc:
                self._damaged(f"object {found.number} {name}", str(exc))
            except StoreError as exc:
                self.report.stopped = f"{name}: {exc}"
                break
        return self.report

    def _damaged(self, name: str, reason: str) -> None:
        self._tell(f"{name}: not imported: {reason}")
        self.report.damaged += 1

    def _take(self, found: Found) -> None:
        """Import one object. Raises BundleError for the bundle's faults, StoreError for the volume's."""
        representation = self._led_to(found.bundled.believed(signed=self._reader.signed))
        if self._selected_otherwise(representation):
            return
        if any(self._stays(volume, found, representation) for volume in self._volumes):
            self._mark_variants(representation)
            return
        volume, reservation = self._room(representation)
        with reservation:
            file = self._staged(volume, found, representation)
            try:
                self._publish(volume, file)
                reservation.commit(reservation.remaining_bytes)
            except BaseException:
                # The file may have its name and no row: the node's next start has to look.
                volume.reconciled = False
                with contextlib.suppress(StoreError):
                    file.unlink_if_current()
                raise
            finally:
                file.close()
        for other in self._volumes:
            if other is not volume:
                _remove(other, representation.object_id)
        self._mark_variants(representation)
        self.report.imported += 1
        self.report.body_bytes += representation.length_bytes

    def _stays(self, volume: Volume, found: Found, new: Representation) -> bool:
        """Whether the volume has the object already and keeps it, repaired where it rotted; counts it then."""
        file = open_object(volume, new.object_id)
        if file is None:
            return False
        try:
            if not file.pieces.complete:
                return False
            here = file.representation
            sizes = (here.length_bytes, here.piece_size_bytes)
            digests = found.bundled.digests
            same = sizes == (new.length_bytes, new.piece_size_bytes) and recorded_digests(file) == digests
            if same and here.trust >= new.trust:
                self._repair(file, found)
                if here.marker != new.marker:
                    file.rewrite_header(replace(here, marker=new.marker))
                return True
        finally:
            file.close()
        return not same and self._keeps_other(new)

    def _keeps_other(self, new: Representation) -> bool:
        """Whether another generation that is here stays; counts it then."""
        if self._replace:
            return False
        self.report.kept += 1
        self._tell(f"{shown_name(new)}: kept as it is: another generation is here; see --replace")
        return True

    def _repair(self, file: ObjectFile, found: Found) -> None:
        """Hold the bytes that are here against their records, and put the bundle's in the place of bad ones."""
        bad = 0
        for piece in range(len(file.pieces)):
            with contextlib.suppress(PieceMismatch, DiskError):  # what cannot be read may be written
                file.check_piece(piece)
                continue
            self._write_piece(file, found, piece)
            bad += 1
        if not bad:
            self.report.unchanged += 1
            return
        file.sync()
        self._tell(f"{shown_name(file.representation)}: repaired: {several(bad, 'piece')}")
        self.report.repaired += 1

    def _write_piece(self, file: ObjectFile, found: Found, piece: int) -> None:
        data = self._reader.piece(found, piece)
        digest = hashlib.sha256(data).digest()
        if digest != found.bundled.digest(piece):
            raise BundleError(f"piece {piece} does not match its digest")
        file.write_at(piece * file.layout.piece_size_bytes, data)
        file.record_piece(piece, digest)

    def _room(self, representation: Representation) -> tuple[Volume, Reservation]:
        """A volume with room for the object; nothing is evicted for it. Raises StoreFull."""
        layout = layout_for(representation, bytes(GENERATION_BYTES))
        needed = layout.whole_bytes
        missing = 0
        for volume in preferred_order(self._volumes, representation.object_id):
            try:
                return volume, volume.ledger.reserve(needed)
            except StoreFull as exc:
                missing = exc.missing_bytes
        raise StoreFull(f"no volume has room for it: {missing} bytes are missing", missing_bytes=missing)

    def _staged(self, volume: Volume, found: Found, representation: Representation) -> ObjectFile:
        """A complete, synced file under a name that is no object's; nothing is left of it after a fault."""
        file = ObjectFile.create(f"{volume.path_of(representation.object_id)}.import", representation)
        try:
            for piece in range(len(file.pieces)):
                self._write_piece(file, found, piece)
            file.sync()
        except BaseException:
            with contextlib.suppress(StoreError):
                file.unlink_if_current()
            file.close()
            raise
        return file

    def _publish(self, volume: Volume, file: ObjectFile) -> None:
        """Give the file its name and its row; the bytes of an older one go back to the ledger."""
        representation = file.representation
        path = volume.path_of(representation.object_id)
        charged = file.layout.whole_bytes
        old = _row(volume, representation.object_id)
        with disk_errors("name the object"):
            os.rename(file.path, path)
            sync_folder(os.path.dirname(path))
        if old is not None:
            volume.ledger.give_back(min(old.stored_bytes, volume.ledger.stored_bytes))
        record = CatalogueRecord(representation.length_bytes, charged, True, representation.service)
        volume.catalogue.put(representation.object_id, record)

    def _led_to(self, new: Representation) -> Representation:
        """With the number of the Vary marker that leads to it here; a new number where there is none."""
        if not new.vary:
            return new
        primary = object_id(new.primary_key)
        rows = (_row(volume, primary) for volume in self._volumes)
        numbers = (row.length_bytes for row in rows if row is not None and row.vary == new.vary)
        return replace(new, marker=next(numbers, VaryMarker.new(primary, new.vary).number))

    def _selected_otherwise(self, new: Representation) -> bool:
        """Whether what is here at the primary key selects by other request fields, or not at all, and stays.

        Such an object would be imported and never found (RFC 9111 §4.1). A marker that this import made stays where
        it is of a later answer.
        """
        primary = object_id(new.primary_key)
        marked_s = self._marked_s.get(primary)
        rows = [row for volume in self._volumes if (row := _row(volume, primary)) is not None and row.complete]
        if all(row.vary == new.vary for row in rows):
            return False
        if marked_s is None:
            return self._keeps_other(new)
        if marked_s <= new.response_time_s:
            return False
        self.report.kept += 1
        self._tell(f"{shown_name(new)}: left out: the bundle has a later generation of it")
        return True

    def _mark_variants(self, representation: Representation) -> None:
        """Note at the primary key by which request fields the variants are selected, in the place of what is there."""
        primary = object_id(representation.primary_key)
        self._marked_s[primary] = max(representation.response_time_s, self._marked_s.get(primary, 0.0))
        if not representation.vary:
            return
        number, service, names = representation.marker, representation.service, representation.vary
        record = CatalogueRecord(number, MARKER_BYTES, True, service, names)
        order = preferred_order(self._volumes, primary)
        rows = ((volume, _row(volume, primary)) for volume in order)
        marked = next((volume for volume, row in rows if row is not None and row.vary == record.vary), None)
        for volume in order:
            if volume is not marked:
                _remove(volume, primary)
        if marked is None:
            order[0].ledger.correct(MARKER_BYTES)
            order[0].catalogue.put(primary, record)


def _row(volume: Volume, object_id: str) -> CatalogueRecord | None:
    try:
        return volume.catalogue.get(object_id)
    except CorruptObject:
        return None


def _remove(volume: Volume, object_id: str) -> None:
    """Take an older copy away from another volume."""
    row = _row(volume, object_id)
    with disk_errors("remove the older object"), contextlib.suppress(FileNotFoundError):
        os.unlink(volume.path_of(object_id))
    if row is not None:
        volume.ledger.give_back(min(row.stored_bytes, volume.ledger.stored_bytes))
        volume.catalogue.delete(object_id)
