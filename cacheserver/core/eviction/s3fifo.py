"""Which units leave when space is needed: S3-FIFO with units weighted by their bytes.

Owns the two queues (small: newcomers, a tenth of the capacity; main: units that were wanted again), the frequencies
and the ghost list. Must not touch files, count space for admission (that is the ledger) or look at a clock. The same
calls in the same order choose the same victims in every process.

A unit is an object (16 bytes of its id) or an extent of a large one (the id and 2 bytes of extent number). Source:
Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023). Three departures: units have sizes, units
evicted from the main queue are remembered as ghosts too, and the work of one call is bounded.

Units of pinned objects stand outside the queues: they are no candidates, and the shares of the queues are counted from
the capacity that they leave. One that was queued before its object was pinned leaves its queue when it is met there.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator

from cacheserver.core.eviction.ghost import Ghost
from cacheserver.core.eviction.pinned_units import OBJECT_BYTES, PinnedUnits
from cacheserver.core.eviction.unit_table import MAIN, MAX_FREQUENCY, MAX_SIZE_BYTES, SMALL, UnitTable

KEY_LENGTHS = (16, 18)
SMALL_SHARE = 0.1
PROMOTE_FREQUENCY = 2
"""Touches in the small queue that earn a place in the main queue."""
STEP_LIMIT = 100_000
"""Most promotions and most skips in one call of ``victims``: about 0.1 s."""
MIN_GHOSTS = 4096
MAX_GHOSTS = 1_048_576
_BYTES_PER_GHOST = 1_048_576
_MIN_GHOST_WINDOW = 64

_SNAPSHOT_HEAD = struct.Struct("<4sB3xQQ")
_SNAPSHOT_SUM = struct.Struct("<I")
_SNAPSHOT_MAGIC = b"S3FQ"
_SNAPSHOT_VERSION = 1


class S3Fifo:
    """The eviction order of one volume. Not thread-safe: one thread calls it."""

    def __init__(self, *, capacity_bytes: int, ghost_entries: int | None = None) -> None:
        """Begin empty. ``ghost_entries``: most evictions remembered; None: one per MiB of capacity, 4,096 to 2**20.

        Raises ValueError for a negative number.
        """
        if capacity_bytes < 0 or (ghost_entries is not None and ghost_entries < 0):
            raise ValueError("capacity_bytes and ghost_entries must not be negative")
        if ghost_entries is None:
            ghost_entries = min(max(capacity_bytes // _BYTES_PER_GHOST, MIN_GHOSTS), MAX_GHOSTS)
        self.capacity_bytes = capacity_bytes
        """The bytes that the shares of the queues are counted from."""
        self._units = UnitTable()
        self._ghost = Ghost(ghost_entries)
        self._pinned = PinnedUnits()
        self._returning: dict[bytes, int] = {}
        """Bytes that a returned unit had when it was evicted and has not got back yet."""
        self.ghost_hits = 0
        """Admitted units that had been evicted so lately that twice the capacity would have kept them.

        That is: fewer units were evicted since than are here now.
        """
        self.ghost_hit_bytes = 0
        """Bytes that came back with them: at most those that each had when it was evicted, to the next 4 KiB."""

    @property
    def used_bytes(self) -> int:
        """Bytes of all units."""
        return sum(self._units.queue_bytes) + self._pinned.used_bytes

    def __len__(self) -> int:
        return sum(self._units.queue_units) + self._pinned.count

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and (self._units.find(key) != 0 or self._pinned.get(key) is not None)

    # -- what happens to units ------------------------------------------------------------------------------------

    def admit(self, key: bytes, size_bytes: int) -> None:
        """Insert a unit of ``size_bytes``, or let a known one grow by as much (one piece after the other is stored).

        A unit that the ghost list knows starts in the main queue, any other in the small one. Raises ValueError for
        a key that is not 16 or 18 bytes or a size out of range.
        """
        _check_size(size_bytes)
        if self._units.find(key):
            self.grow(key, size_bytes)
            self._count_return(key, size_bytes)
        else:
            self._admit_new(key, size_bytes)

    def admit_unless_known(self, key: bytes, size_bytes: int) -> None:
        """Insert a unit that is stored already; a known one stays as it is. Raises ValueError as ``admit``."""
        if not self._units.find(key) and self._pinned.get(key) is None:
            _check_size(size_bytes)
            self._admit_new(key, size_bytes)

    def expect(self, units: int) -> None:
        """Make room for so many units in all, ahead of a load of known size; what is admitted does not change."""
        self._units.expect(units)

    def _admit_new(self, key: bytes, size_bytes: int) -> None:
        if len(key) not in KEY_LENGTHS:
            raise ValueError("a unit key has 16 or 18 bytes")
        if self._pinned.covers(key):
            aside_bytes = (self._pinned.get(key) or 0) + size_bytes
            _check_size(aside_bytes)
            self._pinned.put(key, aside_bytes)
            return
        queue = SMALL
        past = self._ghost.take(key)
        if past is not None:
            since, evicted_bytes = past
            if since < max(len(self), _MIN_GHOST_WINDOW):
                self.ghost_hits += 1
                self._returning[key] = evicted_bytes
                self._count_return(key, size_bytes)
            if since < max(self._units.queue_units[MAIN], _MIN_GHOST_WINDOW):
                queue = MAIN
        self._units.insert(key, size_bytes, queue)

    def _count_return(self, key: bytes, size_bytes: int) -> None:
        """Count what a returned unit gets back, up to what it had."""
        left_bytes = self._returning.pop(key, 0) if self._returning else 0
        if left_bytes:
            self.ghost_hit_bytes += min(size_bytes, left_bytes)
            if size_bytes < left_bytes:
                self._returning[key] = left_bytes - size_bytes

    def touch(self, key: bytes) -> None:
        """Count one use; unknown keys are ignored. O(1).

        One download by one client should be one touch: many ranges of one download are not many uses.
        """
        slot = self._units.find(key)
        if slot:
            self._units.raise_frequency(slot)

    def grow(self, key: bytes, delta_bytes: int) -> bool:
        """Add ``delta_bytes`` (may be negative) to a unit's size; False for an unknown key.

        Raises ValueError where the size would leave its range.
        """
        slot = self._units.find(key)
        if not slot:
            return self._grow_aside(key, delta_bytes)
        size_bytes = self._units.sizes[slot] + delta_bytes
        _check_size(size_bytes)
        self._units.resize(slot, size_bytes)
        return True

    def _grow_aside(self, key: bytes, delta_bytes: int) -> bool:
        known_bytes = self._pinned.get(key)
        if known_bytes is None:
            return False
        _check_size(known_bytes + delta_bytes)
        self._pinned.put(key, known_bytes + delta_bytes)
        return True

    def remove(self, key: bytes) -> int:
        """Forget a unit (purged, not evicted: no ghost); returns its bytes, 0 for an unknown key."""
        slot = self._units.find(key)
        if not slot:
            return self._pinned.remove(key)
        size_bytes = self._units.sizes[slot]
        self._units.unlink(slot)
        self._units.discard(slot)
        self._returning.pop(key, None)
        return size_bytes

    # -- pins -----------------------------------------------------------------------------------------------------

    def pin(self, whole: bytes) -> None:
        """Keep every unit of an object (the 16 bytes of its id), those to come included, from being chosen. O(1).

        Raises ValueError for an id of another length.
        """
        if len(whole) != OBJECT_BYTES:
            raise ValueError("an object's id has 16 bytes")
        self._pinned.pin(whole)

    def unpin(self, whole: bytes) -> None:
        """End that; its units are newcomers now. Nothing for an object that is not pinned."""
        for key, size_bytes in self._pinned.unpin(whole).items():
            self.admit(key, size_bytes)

    def is_pinned(self, key: bytes) -> bool:
        """Whether a unit, or an object, is kept from being chosen."""
        return self._pinned.covers(key)

    def pinned(self) -> tuple[bytes, ...]:
        """Every pinned object."""
        return self._pinned.objects()

    # -- choosing victims -----------------------------------------------------------------------------------------

    def victims(self, need_bytes: int, *, skip: Callable[[bytes], bool]) -> list[bytes]:
        """Choose, remove and return units worth at least ``need_bytes``, or as many as may be had.

        ``skip`` says that a unit is in use; it must not call this object. Skipped units go to the tail of
        their queue. After STEP_LIMIT promotions heads are taken whatever their frequency; after STEP_LIMIT skips
        the call returns with what it has.
        """
        units = self._units
        chosen: list[bytes] = []
        skipped: list[int] = []
        freed_bytes = 0
        promotions = 0
        try:
            while freed_bytes < need_bytes and len(skipped) < STEP_LIMIT:
                slot = self._candidate()
                if not slot:
                    break
                key = units.keys[slot]
                if self._pinned.covers(key):
                    self._pinned.put(key, units.sizes[slot])
                    units.unlink(slot)
                    units.discard(slot)
                    continue
                if promotions < STEP_LIMIT and self._promote(slot):
                    promotions += 1
                    continue
                keep = skip(key)
                units.unlink(slot)
                if keep:
                    skipped.append(slot)
                    continue
                freed_bytes += units.sizes[slot]
                self._ghost.add(key, units.sizes[slot])
                self._returning.pop(key, None)
                units.discard(slot)
                chosen.append(key)
        finally:
            for slot in skipped:
                units.push(slot, units.queue_of(slot))
        return chosen

    def _candidate(self) -> int:
        """The head of the queue that holds more than its share; 0 when both are empty."""
        units = self._units
        small, main = units.head(SMALL), units.head(MAIN)
        shared_bytes = max(0, self.capacity_bytes - self._pinned.used_bytes)
        if small and (not main or units.queue_bytes[SMALL] > shared_bytes * SMALL_SHARE):
            return small
        return main or small

    def _promote(self, slot: int) -> bool:
        """Give a head that was used another round; False where it is to go."""
        units = self._units
        frequency = units.frequency(slot)
        in_small = units.queue_of(slot) == SMALL
        if frequency < (PROMOTE_FREQUENCY if in_small else 1):
            return False
        units.unlink(slot)
        units.set_frequency(slot, 0 if in_small else frequency - 1)
        units.push(slot, MAIN)
        return True

    # -- across a restart -----------------------------------------------------------------------------------------

    def units(self) -> Iterator[tuple[bytes, int]]:
        """Every key with its bytes, small queue first, oldest first, then pinned ones; nothing may change meanwhile."""
        for queue in (SMALL, MAIN):
            for slot in self._units.walk(queue):
                yield self._units.keys[slot], self._units.sizes[slot]
        yield from self._pinned.units()

    def snapshot(self) -> bytes:
        """Queue order, sizes and frequencies as bytes for ``restore``: 26 or 28 bytes a unit.

        Ghosts are left out, and so are pins and the units that stand aside: they have no order.
        """
        units = self._units
        slots = [slot for queue in (SMALL, MAIN) for slot in units.walk(queue)]
        keys = [units.keys[slot] for slot in slots]
        body = b"".join(
            (
                _SNAPSHOT_HEAD.pack(_SNAPSHOT_MAGIC, _SNAPSHOT_VERSION, *units.queue_units),
                bytes(map(units.frequency, slots)),
                bytes(map(len, keys)),
                _little_endian(array("Q", map(units.sizes.__getitem__, slots))).tobytes(),
                *keys,
            )
        )
        return body + _SNAPSHOT_SUM.pack(zlib.crc32(body))

    def restore(self, data: bytes) -> None:
        """Replace everything but the pins by what ``snapshot`` gave. ValueError for damaged data; it is empty then."""
        self._pinned.forget_units()
        self._units = UnitTable()
        self._ghost = Ghost(self._ghost.entries)
        self._returning.clear()
        self._units = _parse_snapshot(data)


def _check_size(size_bytes: int) -> None:
    if not 0 <= size_bytes <= MAX_SIZE_BYTES:
        raise ValueError("size_bytes is out of range")


def _little_endian(sizes: array[int]) -> array[int]:
    if sys.byteorder == "big":
        sizes.byteswap()
    return sizes


def _parse_snapshot(data: bytes) -> UnitTable:
    """The units of a snapshot. Raises ValueError."""
    end = len(data) - _SNAPSHOT_SUM.size
    if end < _SNAPSHOT_HEAD.size:
        raise ValueError("eviction snapshot is cut short")
    magic, version, small_units, main_units = _SNAPSHOT_HEAD.unpack_from(data)
    if magic != _SNAPSHOT_MAGIC or version != _SNAPSHOT_VERSION:
        raise ValueError("not an eviction snapshot of this version")
    if _SNAPSHOT_SUM.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[:end]):
        raise ValueError("eviction snapshot has a wrong checksum")
    count = small_units + main_units
    first_length = _SNAPSHOT_HEAD.size + count
    first_size = first_length + count
    place = first_size + 8 * count
    frequencies, lengths = data[_SNAPSHOT_HEAD.size : first_length], data[first_length:first_size]
    if place > end or place + sum(lengths) != end:
        raise ValueError("eviction snapshot has a length that contradicts its number of units")
    units = UnitTable()
    sizes = _little_endian(array("Q", data[first_size:place]))
    for number, (frequency, length, size_bytes) in enumerate(zip(frequencies, lengths, sizes, strict=True)):
        key = data[place : place + length]
        place += length
        if length not in KEY_LENGTHS or frequency > MAX_FREQUENCY or units.find(key):
            raise ValueError("eviction snapshot has a bad unit")
        _check_size(size_bytes)
        units.insert(key, size_bytes, SMALL if number < small_units else MAIN, frequency)
    return units
