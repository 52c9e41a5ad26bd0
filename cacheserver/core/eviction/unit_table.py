"""Compact storage of eviction units: slots in flat arrays, two linked queues, and an index from key to slot.

Owns where a unit's size, frequency and queue place are kept, and the bytes and number of units per queue. Must not
decide what is evicted; that is ``core.eviction.s3fifo``.

A ``dict`` of key to slot was measured at 84 bytes a unit once keys come and go, plus 32 for the slot's int object.
The index here is open addressing over ``array``: 6 to 12 bytes a unit and no object but the key. It is cut into 256
tables that grow one by one, so that growth never costs more than about a millisecond at a time. ``hash()`` of bytes
is keyed per process: it defeats crafted collisions and has no influence on any order that the queues show.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

SMALL = 0
MAIN = 1
MAX_FREQUENCY = 3
MAX_SIZE_BYTES = 2**62

_FREQUENCY_BITS = 0b011
_QUEUE_BIT = 0b100
_TABLES = 256
_FIRST_TABLE = 8
_MOST_EXPECTED = 2**24


class UnitTable:
    """Slots 1, 2, … hold one unit each; slot 0 means "none". Freed slots are used again; nothing here shrinks.

    ``keys[slot]`` and ``sizes[slot]`` (bytes) may be read; ``queue_bytes`` and ``queue_units`` are per queue and
    count linked units only.
    """

    def __init__(self) -> None:
        self.keys: list[bytes] = [b""]
        self.sizes = array("Q", [0])
        self.queue_bytes = [0, 0]
        self.queue_units = [0, 0]
        self._bits = bytearray(1)
        self._after = array("I", [0])
        self._before = array("I", [0])
        self._heads = [0, 0]
        self._tails = [0, 0]
        self._free = 0
        self._index = [array("I", bytes(4 * _FIRST_TABLE)) for _ in range(_TABLES)]
        self._filled = array("I", bytes(4 * _TABLES))

    # -- index ----------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> int:
        """The slot of ``key``, or 0."""
        hashed = hash(key)
        table = self._index[hashed & 255]
        mask = len(table) - 1
        place = (hashed >> 8) & mask
        keys = self.keys
        while slot := table[place]:
            if keys[slot] == key:
                return slot
            place = (place + 1) & mask
        return 0

    def expect(self, units: int) -> None:
        """Let each table have the size that it would grow to with so many units in all, at most ``_MOST_EXPECTED``."""
        size = _FIRST_TABLE
        while min(units, _MOST_EXPECTED) * 3 > size * 2 * _TABLES:
            size *= 2
        for which, table in enumerate(self._index):
            if len(table) < size:
                self._resize_table(which, size)

    def insert(self, key: bytes, size_bytes: int, queue: int, frequency: int = 0) -> int:
        """Put an unknown ``key`` at the tail of ``queue``; returns its slot."""
        slot = self._free
        if slot:
            self._free = self._after[slot]
            self.keys[slot] = key
            self.sizes[slot] = size_bytes
            self._bits[slot] = frequency
        else:
            slot = len(self.keys)
            self.keys.append(key)
            self.sizes.append(size_bytes)
            self._bits.append(frequency)
            self._after.append(0)
            self._before.append(0)
        self._add_to_index(key, slot)
        self.push(slot, queue)
        return slot

    def discard(self, slot: int) -> None:
        """Forget an unlinked slot; its number may be given to another unit."""
        self._drop_from_index(slot)
        self.keys[slot] = b""
        self.sizes[slot] = 0
        self._after[slot] = self._free
        self._free = slot

    def _add_to_index(self, key: bytes, slot: int) -> None:
        hashed = hash(key)
        which = hashed & 255
        self._filled[which] += 1
        if self._filled[which] * 3 > len(self._index[which]) * 2:
            self._resize_table(which, 2 * len(self._index[which]))
        self._place(self._index[which], hashed, slot)

    def _resize_table(self, which: int, size: int) -> None:
        new = array("I", bytes(4 * size))
        for slot in self._index[which]:
            if slot:
                self._place(new, hash(self.keys[slot]), slot)
        self._index[which] = new

    @staticmethod
    def _place(table: array[int], hashed: int, slot: int) -> None:
        mask = len(table) - 1
        place = (hashed >> 8) & mask
        while table[place]:
            place = (place + 1) & mask
        table[place] = slot

    def _drop_from_index(self, slot: int) -> None:
        """Close the gap by moving later entries of the same run back, so that no tombstones are needed."""
        hashed = hash(self.keys[slot])
        table = self._index[hashed & 255]
        mask = len(table) - 1
        gap = (hashed >> 8) & mask
        while table[gap] != slot:
            gap = (gap + 1) & mask
        place = (gap + 1) & mask
        while other := table[place]:
            home = (hash(self.keys[other]) >> 8) & mask
            if (place - home) & mask >= (place - gap) & mask:
                table[gap] = other
                gap = place
            place = (place + 1) & mask
        table[gap] = 0
        self._filled[hashed & 255] -= 1

    # -- queues and frequencies -----------------------------------------------------------------------------------

    def head(self, queue: int) -> int:
        """The oldest slot of ``queue``, or 0."""
        return self._heads[queue]

    def push(self, slot: int, queue: int) -> None:
        """Link an unlinked ``slot`` at the tail of ``queue``."""
        tail = self._tails[queue]
        self._before[slot] = tail
        self._after[slot] = 0
        if tail:
            self._after[tail] = slot
        else:
            self._heads[queue] = slot
        self._tails[queue] = slot
        self._bits[slot] = (self._bits[slot] & _FREQUENCY_BITS) | (_QUEUE_BIT if queue else 0)
        self.queue_bytes[queue] += self.sizes[slot]
        self.queue_units[queue] += 1

    def unlink(self, slot: int) -> None:
        """Take ``slot`` out of its queue; it stays in the index until ``discard``."""
        queue = self.queue_of(slot)
        before, after = self._before[slot], self._after[slot]
        if before:
            self._after[before] = after
        else:
            self._heads[queue] = after
        if after:
            self._before[after] = before
        else:
            self._tails[queue] = before
        self.queue_bytes[queue] -= self.sizes[slot]
        self.queue_units[queue] -= 1

    def queue_of(self, slot: int) -> int:
        """SMALL or MAIN; for an unlinked slot the queue that it was in."""
        return MAIN if self._bits[slot] & _QUEUE_BIT else SMALL

    def resize(self, slot: int, size_bytes: int) -> None:
        """Change the size of a linked unit."""
        self.queue_bytes[self.queue_of(slot)] += size_bytes - self.sizes[slot]
        self.sizes[slot] = size_bytes

    def frequency(self, slot: int) -> int:
        """Touches that count, 0 to 3."""
        return self._bits[slot] & _FREQUENCY_BITS

    def set_frequency(self, slot: int, frequency: int) -> None:
        """Set the touches that count, 0 to 3."""
        self._bits[slot] = (self._bits[slot] & _QUEUE_BIT) | frequency

    def raise_frequency(self, slot: int) -> None:
        """One touch more, up to 3."""
        bits = self._bits[slot]
        if bits & _FREQUENCY_BITS < MAX_FREQUENCY:
            self._bits[slot] = bits + 1

    def walk(self, queue: int) -> Iterator[int]:
        """Slots of ``queue``, oldest first; the queue must not change meanwhile."""
        slot = self._heads[queue]
        while slot:
            yield slot
            slot = self._after[slot]
