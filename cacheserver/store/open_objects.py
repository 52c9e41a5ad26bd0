"""The table of open objects, and blocking calls on their volumes.

Owns: which objects are open, whose life is changing (one transition per id at a time), when descriptors are closed
(least recently used first), the catalogue rows that are due. Must not open or remove files: ``finding`` and ``removal``
do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar

from cacheserver.concurrency.keyed_lock import KeyedLock
from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.disk_faults import Blame
from cacheserver.core.errors import DiskError, StoreError
from cacheserver.core.object_life import Event, Life, after
from cacheserver.core.piece_map import ABSENT
from cacheserver.logs.events import event, get_logger
from cacheserver.store.notifications import Notifications
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.layout import extent_bytes_of
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume

T = TypeVar("T")
_log = get_logger(__name__)
_ROW_DELAY_S = 1.0


class Rows:
    """Catalogue rows that are due, written a moment after their objects changed; the files can rebuild a lost one."""

    def __init__(self) -> None:
        self._due: set[StoredObject] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __contains__(self, obj: StoredObject) -> bool:
        return obj in self._due

    def note(self, obj: StoredObject) -> None:
        """Have the object's row written within a second."""
        if self._closed:
            return
        self._due.add(obj)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ROW_DELAY_S, self.write)

    def drop(self, obj: StoredObject) -> None:
        """Do not write the row of an object that was removed."""
        self._due.discard(obj)

    def write(self) -> None:
        """Hand every changed row to the catalogue's writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._due:
            obj = self._due.pop()
            with contextlib.suppress(OSError, StoreError):  # its row stays as it was, and the others are written
                if obj.usable and not obj.held:  # what is being written now is reserved, and not charged yet
                    _charge_maps(obj)
                obj.volume.catalogue.put(obj.object_id, obj.row())

    def close(self) -> None:
        """Write what is due, and nothing any more: the last readers may leave after the catalogue was closed."""
        self.write()
        self._closed = True


def _charge_maps(obj: StoredObject) -> None:
    """Charge what the file takes beyond its pieces: the file system's map of a file of many extents."""
    more = obj.file.taken_bytes() - obj.charged_bytes
    if more > 0:
        obj.charged_bytes += more
        obj.volume.ledger.correct(more)


class OpenObjects:
    """Open objects and Vary markers by object id, at most ``limit`` of them unless more are held."""

    def __init__(self, *, executor: Executor, notifications: Notifications, extent_bytes: int, limit: int) -> None:
        self.executor = executor
        self.notifications = notifications
        self.rows = Rows()
        self.creating: set[str] = set()
        """Ids of which a generation is being created, the end of the one before included."""
        self.changing = KeyedLock[str]()
        """One transition of an object's life at a time, by id; a holder must not ask for another id's lock."""
        self._extent_bytes = extent_bytes
        self._limit = limit
        self._lacked = False
        """Whether it was said that the process lacks descriptors or memory: once is enough."""
        self._open: OrderedDict[str, StoredObject | VaryMarker] = OrderedDict()

    def peek(self, object_id: str) -> StoredObject | VaryMarker | None:
        """The object if it is open and neither losing an extent nor being created; counts as a use. No I/O (I6)."""
        found = self._open.get(object_id)
        if found is None or object_id in self.creating:
            return None
        if isinstance(found, StoredObject) and found.erasing is not None:
            return None
        self._open.move_to_end(object_id)
        return found

    def peek_quietly(self, object_id: str) -> StoredObject | VaryMarker | None:
        """The object if it is open; does not count as a use of the descriptor."""
        return self._open.get(object_id)

    def cool(self, object_id: str) -> None:
        """Close this object before others."""
        if object_id in self._open:
            self._open.move_to_end(object_id, last=False)

    def adopt(self, volume: Volume, file: ObjectFile, event: Event) -> StoredObject:
        """Enter a file that was CREATED or OPENED, charged with what it takes on disk; the books are the caller's.

        Raises IllegalTransition where the object is open already.
        """
        there = self._open.get(file.representation.object_id)
        now = Life.CREATING if event is Event.CREATED else Life.CLOSED
        life = after(there.life if isinstance(there, StoredObject) else now, event)
        extent_bytes = extent_bytes_of(file.layout.length_bytes, self._extent_bytes)
        extent_pieces = max(1, extent_bytes // file.layout.piece_size_bytes)
        obj = StoredObject(file=file, volume=volume, extent_pieces=extent_pieces, life=life)
        obj.charged_bytes = max(file.expected_bytes, file.found_bytes)
        self.remember(obj.object_id, obj)
        return obj

    def remember(self, object_id: str, found: StoredObject | VaryMarker) -> None:
        """Enter an object or a marker; close others where there are too many."""
        self._open[object_id] = found
        if len(self._open) > self._limit:
            self._close_least_recent(self._limit - self._limit // 8)

    def _close_least_recent(self, kept: int) -> None:
        """Close those that were not used for longest, those in use left out, until about ``kept`` are open."""
        for object_id in list(self._open)[: max(0, len(self._open) - kept)]:
            found = self._open[object_id]
            if isinstance(found, StoredObject):
                if found.held or found in self.rows:
                    continue
                self.notifications.withdrawn(found)
                found.advance(Event.CLOSE)
            del self._open[object_id]

    def drop_piece(self, obj: StoredObject, piece: int, *, bad: bool) -> None:
        """Take a piece out of service; its blocks stay charged until it is fetched again or evicted.

        ``bad``: its bytes are wrong; False where they only cannot be read.
        """
        if obj.pieces.state(piece) == ABSENT:
            return
        if bad:
            obj.condemn(piece)
        obj.pieces.mark(piece, ABSENT)
        obj.torn.add(piece)
        obj.kept_digests.add(piece)
        if not obj.obsolete:
            self.notifications.withdrawn(obj)
            self.rows.note(obj)

    def give_back(self, obj: StoredObject, pieces: Iterable[int]) -> int:
        """The blocks of charged pieces are free: charge them no more; how many bytes that is."""
        freed = 0
        for piece in pieces:
            obj.torn.discard(piece)
            obj.kept_digests.discard(piece)
            freed += obj.cost_bytes(piece)
        obj.charged_bytes -= freed
        obj.volume.ledger.give_back(freed)
        return freed

    def detach(self, obj: StoredObject) -> None:
        """Make an object obsolete: it can no longer be found. The caller removes its file and row."""
        obj.advance(Event.RETIRE)
        self.rows.drop(obj)
        if self._open.get(obj.object_id) is obj:
            del self._open[obj.object_id]
        self.notifications.withdrawn(obj)

    def lose(self, volume: Volume) -> None:
        """All that was on a volume is gone: its objects are obsolete, and markers are looked for anew."""
        for object_id, found in list(self._open.items()):
            if isinstance(found, VaryMarker):
                del self._open[object_id]
            elif found.volume is volume:
                self.detach(found)

    def on(self, volume: Volume) -> list[StoredObject]:
        """The open objects of a volume."""
        return [obj for obj in self._open.values() if isinstance(obj, StoredObject) and obj.volume is volume]

    def drop_marker(self, object_id: str) -> None:
        """Forget an open Vary marker."""
        if isinstance(self._open.get(object_id), VaryMarker):
            del self._open[object_id]

    async def run(self, volume: Volume, call: Callable[..., T], *args: Any) -> T:
        """Run one blocking call in the store's threads; the volume learns how it went.

        A caller that is cancelled waits for its end: what it holds stays open, and no later write is overtaken by it.
        DiskError where the volume was lost meanwhile: nothing that was found or made there counts.
        """
        lives = volume.lives
        try:
            result = await to_the_end(asyncio.get_running_loop().run_in_executor(self.executor, call, *args))
        except DiskError as exc:
            if lives == volume.lives:
                self.note_failure(volume, exc)
            raise
        if lives != volume.lives:
            if isinstance(result, ObjectFile):
                result.close()
            raise DiskError("the volume was lost meanwhile", errno=errno.ENODEV)
        volume.succeeded()
        return result

    def note_failure(self, volume: Volume, error: DiskError) -> None:
        """Act on a failed disk call: on the drive, or on what the process lacks."""
        blame = volume.failed(error)
        if blame is Blame.FULL:
            self.notifications.drive_full(volume)
        elif blame is Blame.PROCESS:
            self._close_least_recent(len(self._open) - len(self._open) // 8 - 1)
            if not self._lacked:
                self._lacked = True
                event(_log, "process_limit", severity=logging.ERROR, reason=str(error), open_objects=len(self._open))

    def close(self) -> None:
        """Close every file."""
        for found in self._open.values():
            if isinstance(found, StoredObject):
                found.advance(Event.CLOSE)
        self._open.clear()
