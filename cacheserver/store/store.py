"""The object store: finds, creates, writes, checks and forgets objects on one or several volumes.

Owns: the choice of volume, the order of steps in every change (I3), space by way of each volume's ledger (I4). Must not
know of HTTP, clients or sources. Everything runs in the event loop; blocking calls go to the store's own threads, never
to the shared default executor.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import DiskError, Outdated, StoreError, StoreFull, TooLarge, VolumeOffline
from cacheserver.core.object_life import Event
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.keys import object_id as id_of
from cacheserver.ports import Meter
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.checking import Checker
from cacheserver.store.finding import Finder
from cacheserver.store.ledger import Reservation
from cacheserver.store.notifications import Notifications
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.layout import GENERATION_BYTES, MOST_PIECES, layout_for
from cacheserver.store.object.residency import reading_threads
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.placement import preferred_order
from cacheserver.store.reclaim import Reclaimer
from cacheserver.store.removal import Remover, inspected
from cacheserver.store.stored_object import StoredObject, VaryMarker, unit_key
from cacheserver.store.volume import Volume
from cacheserver.store.writing import receive_and_hash, write_and_hash

T = TypeVar("T")
_PURGES_REMEMBERED = 4096
"""Longer than any request to an origin lasts, unless an operator purges very fast."""
MARKER_BYTES = 512
"""What a Vary marker is charged: about its row in the catalogue."""


class Store:
    """All volumes as one store."""

    def __init__(
        self, *, volumes: Sequence[Volume], extent_bytes: int, open_objects: int, io_threads: int, meter: Meter
    ) -> None:
        self.volumes = tuple(volumes)
        self.executor = ThreadPoolExecutor(io_threads, thread_name_prefix="store")
        self.reading = reading_threads(io_threads)
        """Threads that read cold bytes into memory before they are sent; writes and checks do not wait behind them."""
        self.notifications = Notifications()
        self.purges = 0
        """Number of purges so far; see ``create``."""
        self._purged = BoundedMemory[str, int](_PURGES_REMEMBERED)
        """Number of the last purge of an object id."""
        self._objects = OpenObjects(
            executor=self.executor, notifications=self.notifications, extent_bytes=extent_bytes, limit=open_objects
        )
        self._remover = Remover(self._objects, meter=meter)
        self._finder = Finder(self.volumes, self._objects, self._remover)
        self._reclaimer = Reclaimer(self._objects, self._finder, self._remover, meter=meter)
        self.checker = Checker(self._objects, meter=meter)

    # -- finding ------------------------------------------------------------------------------------------------

    def peek(self, object_id: str) -> StoredObject | VaryMarker | None:
        """The object if it is open already, and neither losing an extent nor being created right now; no I/O (I6)."""
        return self._objects.peek(object_id)

    def peek_quietly(self, object_id: str) -> StoredObject | VaryMarker | None:
        """The object if it is open; does not count as a use of the descriptor."""
        return self._objects.peek_quietly(object_id)

    @contextmanager
    def visiting(self, object_id: str) -> Iterator[None]:
        """Close an object that is opened within this block before others: only the visitor needs it."""
        was_open = self._objects.peek_quietly(object_id) is not None
        try:
            yield
        finally:
            if not was_open:
                self._objects.cool(object_id)

    async def find(self, object_id: str) -> StoredObject | VaryMarker | None:
        """The object, opened when it is on a volume; None when it is on none or unusable."""
        return await self._finder.find(object_id)

    def should_move(self, obj: StoredObject) -> bool:
        """Whether it lacks pieces that its failing volume cannot take and another one can; False while it is held."""
        if obj.held or obj.pieces.complete or not obj.volume.ailing:
            return False
        return any(volume.writable for volume in self.volumes if volume is not obj.volume)

    # -- creating and writing -----------------------------------------------------------------------------------

    async def create(self, representation: Representation, *, since: int | None = None) -> StoredObject:
        """A new, empty generation, an older one becomes obsolete. TooLarge, StoreFull, VolumeOffline or DiskError.

        ``since``: the number of ``purges`` when it was asked for; Outdated where its key was purged after that.
        It cannot be found before this returns, without another turn of the loop in between.
        """
        volume = next((v for v in preferred_order(self.volumes, representation.object_id) if v.writable), None)
        if volume is None:
            raise VolumeOffline("no volume can be written to")
        object_id = representation.object_id
        layout = layout_for(representation, bytes(GENERATION_BYTES))
        if layout.piece_count > MOST_PIECES:
            raise TooLarge(f"an object of {layout.length_bytes} bytes has more than {MOST_PIECES} pieces")
        # Space comes first: a task that waits for space holds no lock that an eviction may need.
        with await self._reserve(volume, layout.footer_bytes) as reservation:
            async with self._objects.changing.holding(object_id):
                keys = (object_id, id_of(representation.primary_key))
                if since is not None and self.purged_after(since, *keys):
                    raise Outdated("the object was purged after it was asked for")
                self._objects.creating.add(object_id)
                try:
                    await self._forget(object_id, reason="superseded")
                    return await to_the_end(self._create(volume, representation, reservation))
                finally:
                    self._objects.creating.discard(object_id)

    async def _create(self, volume: Volume, representation: Representation, reservation: Reservation) -> StoredObject:
        if not reservation.is_of(volume.ledger):
            raise VolumeOffline("the volume was lost meanwhile")
        path = volume.path_of(representation.object_id)
        try:
            file = await self.run(volume, ObjectFile.create, path, representation)
        except DiskError as exc:
            volume.refused(exc)
            raise
        volume.obeyed()
        volume.leftovers.gone(representation.object_id)
        obj = self._objects.adopt(volume, file, Event.CREATED)
        reservation.commit(obj.charged_bytes)
        volume.policy.admit(obj.unit(0), obj.charged_bytes)
        volume.object_count += 1
        self._objects.rows.note(obj)
        self.notifications.created(obj)
        return obj

    def purged_after(self, since: int, *object_ids: str) -> bool:
        """Whether one of these was purged since there were ``since`` purges."""
        return any((self._purged.get(each) or 0) > since for each in object_ids)

    def is_creating(self, object_id: str) -> bool:
        """Whether a generation of this object is being created right now, the end of the one before included."""
        return object_id in self._objects.creating

    async def mark_vary(self, marker: VaryMarker, *, service: str, since: int | None = None) -> None:
        """Note that the origin selects representations of this primary key by these request fields.

        An object or another marker that stands at the key is forgotten. Nothing happens where the key was purged after
        ``since``, the number of ``purges`` when it was asked for: what the marker led to is not to be found again.
        """
        object_id = marker.object_id
        async with self._objects.changing.holding(object_id):
            if since is None or not self.purged_after(since, object_id):
                await self._mark_vary(object_id, marker, service)

    async def _mark_vary(self, object_id: str, marker: VaryMarker, service: str) -> None:
        found = await self._finder.look(object_id)
        if found == marker:
            return
        if found is not None:
            await self._forget(object_id, reason="superseded")
        volume = next((v for v in preferred_order(self.volumes, object_id) if v.writable), None)
        if volume is None:
            return
        record = CatalogueRecord(marker.number, MARKER_BYTES, True, service, marker.names)
        volume.catalogue.put(object_id, record)
        volume.ledger.correct(MARKER_BYTES)
        volume.policy.admit(unit_key(object_id, None), MARKER_BYTES)
        volume.object_count += 1
        self._objects.remember(object_id, marker)

    async def reserve(self, obj: StoredObject, piece: int) -> Reservation:
        """Room for one piece of this object, evicting others where needed; StoreFull when there is none."""
        if not obj.volume.writable:
            raise VolumeOffline("volume cannot be written to")
        return await self._reserve(obj.volume, 0 if piece in obj.torn else obj.cost_bytes(piece))

    async def _reserve(self, volume: Volume, amount_bytes: int) -> Reservation:
        for _ in range(3 if amount_bytes <= volume.ledger.capacity_bytes else 0):
            try:
                return _granted(volume, amount_bytes)
            except StoreFull:
                if not await self._reclaimer.free(volume, amount_bytes):
                    raise
        return _granted(volume, amount_bytes)

    async def write(self, obj: StoredObject, offset: int, data: bytes, digest: hashlib._Hash) -> None:
        """Write body bytes and feed them to the piece's running SHA-256, in one trip to a thread."""
        await self.run(obj.volume, write_and_hash, obj.file, offset, data, digest)

    async def receive(
        self, obj: StoredObject, offset: int, sock: socket.socket, most: int, digest: hashlib._Hash
    ) -> int:
        """The same with what a socket has; see ``receive_and_hash``."""
        return await self.run(obj.volume, receive_and_hash, obj.file, offset, sock, most, digest)

    async def commit(self, obj: StoredObject, piece: int, digest: bytes, reservation: Reservation) -> None:
        """Mark a written piece PRESENT, on disk first; its bytes move from reserved to stored."""
        await to_the_end(self._commit(obj, piece, digest, reservation))

    async def _commit(self, obj: StoredObject, piece: int, digest: bytes, reservation: Reservation) -> None:
        await self.run(obj.volume, obj.file.record_piece, piece, digest)
        obj.volume.wrote()
        self._charge(obj, piece, reservation)
        reservation.release()
        obj.torn.discard(piece)
        obj.kept_digests.discard(piece)
        if not obj.obsolete:
            self._objects.rows.note(obj)

    def _charge(self, obj: StoredObject, piece: int, reservation: Reservation) -> None:
        """Have the blocks of a piece charged, once; those of an obsolete object go with its file."""
        if piece not in obj.torn and not obj.obsolete:
            size = obj.cost_bytes(piece)
            reservation.commit(size)
            obj.charged_bytes += size
            obj.volume.policy.admit(obj.unit_of(piece), size)

    def leave_torn(self, obj: StoredObject, piece: int, reservation: Reservation) -> None:
        """A piece was begun and is not finished: its blocks stay charged until it is, or is evicted."""
        if obj.pieces.state(piece) == ABSENT:
            self._charge(obj, piece, reservation)
            obj.torn.add(piece)
            if not obj.obsolete:
                self._objects.rows.note(obj)

    def settle(self, obj: StoredObject) -> None:
        """A fill has ended: what the file takes is charged when its row is written."""
        if not obj.obsolete:
            self._objects.rows.note(obj)
            self.notifications.filled(obj)

    async def erase(self, obj: StoredObject, piece: int) -> None:
        """Take a bad piece out of service and off the disk, so that no start finds it again. DiskError."""
        self._objects.drop_piece(obj, piece, bad=True)
        obj.kept_digests.discard(piece)
        try:
            await self.run(obj.volume, obj.file.erase, piece, piece + 1)
        except DiskError as exc:
            if exc.errno != errno.ENOTSUP:
                raise
            return  # its record is gone, which is what counts; its blocks stay charged
        if piece in obj.torn and not obj.obsolete:
            self._objects.give_back(obj, (piece,))

    async def check(self, obj: StoredObject, pieces: Sequence[int]) -> None:
        """Hash stored pieces before their first delivery (I1): each becomes PRESENT, or ABSENT when it is bad."""
        await self.checker.check(obj, pieces)

    async def whole_digests(self, obj: StoredObject, names: Sequence[str]) -> dict[str, bytes]:
        """Digests over the whole content of a complete object, by hashlib name."""
        with obj.holding():
            return await self.run(obj.volume, obj.file.whole_digests, names)

    def drop_piece(self, obj: StoredObject, piece: int) -> None:
        """Take an unreadable piece out of service; its blocks stay charged until it is fetched again or evicted."""
        self._objects.drop_piece(obj, piece, bad=False)

    async def refresh(self, obj: StoredObject, representation: Representation) -> None:
        """Take up the fields and times of a 304; an object whose header cannot be written (any more) is forgotten.

        Nothing happens where another generation has taken its place, or where it was closed meanwhile.
        """
        with obj.holding():
            async with self._objects.changing.holding(obj.object_id):
                if not obj.usable:
                    return
                try:
                    kept = await self.run(obj.volume, obj.file.rewrite_header, representation)
                except DiskError:
                    kept = False
                if not kept:
                    await self._forget(obj.object_id, reason="superseded")

    def touch(self, obj: StoredObject, first: int, stop: int) -> None:
        """Note a use of pieces ``[first, stop)``."""
        extents = obj.extent_pieces
        for extent in range(first // extents, max(first // extents + 1, -(-stop // extents))):
            if obj.used_again(extent):
                obj.volume.policy.touch(obj.unit(extent))
                if obj.representation.vary:
                    self._touch_marker(id_of(obj.representation.primary_key))

    def _touch_marker(self, object_id: str) -> None:
        for volume in self.volumes:
            volume.policy.touch(unit_key(object_id, None))

    # -- forgetting ---------------------------------------------------------------------------------------------

    async def forget(self, object_id: str, *, reason: str) -> bool:
        """Remove an object from every volume; True when one was known to be there. Its readers keep what they hold.

        A Vary marker is no object. Where a disk refuses, the object is not found any more, and its file is among the
        volume's leftovers; a purge tries those again.
        """
        async with self._objects.changing.holding(object_id):
            return await self._forget(object_id, reason=reason)

    def outdate(self, object_id: str) -> None:
        """A purge begins: nothing that was asked for before is stored at this key, or as a variant of it."""
        self.purges += 1
        self._purged.keep(object_id, self.purges)
        self.notifications.purged(object_id)

    async def retire(self, obj: StoredObject, *, reason: str) -> None:
        """The same for this generation alone: nothing happens where another one has taken its place."""
        async with self._objects.changing.holding(obj.object_id):
            if obj.usable:  # of one that was closed nobody knows what has taken its place since
                await self._forget(obj.object_id, reason=reason)

    async def _forget(self, object_id: str, *, reason: str) -> bool:
        found = self._objects.peek_quietly(object_id)
        dropped = None
        if isinstance(found, StoredObject):
            await self._remover.drop_open(found, reason=reason)
            dropped = found.volume
        was_there = dropped is not None
        for volume in self.volumes:  # one that was away for a while may hold an older generation
            if volume is not dropped:
                was_there |= await self._remover.drop_file(volume, object_id, reason=reason)
        return was_there

    async def inspect(self, volume: Volume) -> str | None:
        """Whether a volume is what was opened: why not, or None. Objects whose files were removed by others go.

        DiskError where the drive cannot tell.
        """
        try:
            work = partial(inspected, volume, self._objects.on(volume))
            reason, gone = await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except DiskError as exc:
            self._objects.note_failure(volume, exc)
            raise
        for obj in gone:
            await self.retire(obj, reason="corrupt")
        return reason

    async def lose(self, volume: Volume) -> None:
        """All that was on a volume is gone; it is to be opened anew. Its objects' holders keep what they hold."""
        self._objects.lose(volume)
        catalogue = volume.lost()
        with suppress(StoreError):
            await asyncio.get_running_loop().run_in_executor(self.executor, catalogue.close)
            catalogue.close()  # this thread's connection

    # -- rows, threads, end -------------------------------------------------------------------------------------

    def write_rows(self) -> None:
        """Hand every changed row to the catalogue's writer."""
        self._objects.rows.write()

    async def run(self, volume: Volume, call: Callable[..., T], *args: Any) -> T:
        """Run one blocking call in the store's threads; the volume learns how it went."""
        return await self._objects.run(volume, call, *args)

    async def run_alone(self, object_id: str, volume: Volume, call: Callable[..., T], *args: Any) -> T:
        """The same while nothing is created, opened or removed at this id."""
        async with self._objects.changing.holding(object_id):
            return await self.run(volume, call, *args)

    async def stop(self, *, clean: bool) -> None:
        """Write all rows and recency, close every file and volume."""
        loop = asyncio.get_running_loop()
        for volume in self.volumes:
            await self._reclaimer.shedding.settled(volume)
        self._objects.rows.close()
        for volume in self.volumes:
            if not volume.opened:
                continue
            await volume.save_recency(self.executor)
            await loop.run_in_executor(self.executor, partial(volume.close, clean=clean))
            volume.catalogue.close()
        self._objects.close()
        self.executor.shutdown(wait=True)
        self.reading.shutdown(wait=True)


def _granted(volume: Volume, amount_bytes: int) -> Reservation:
    """A reservation; VolumeOffline where the volume was lost meanwhile: its books are not begun before it is open."""
    if not volume.opened:
        raise VolumeOffline("the volume was lost meanwhile")
    return volume.ledger.reserve(amount_bytes)
