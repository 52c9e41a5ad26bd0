"""Eviction units that never leave for space: those of pinned objects.

Owns: which objects are pinned, and the bytes of their units while these stand outside the queues. Must not know of
queues or frequencies; ``core.eviction.s3fifo`` takes a unit out of its queue when it meets it.
"""

from __future__ import annotations

from collections.abc import Iterator

OBJECT_BYTES = 16
"""A unit's key begins with its object's id, of so many bytes."""


class PinnedUnits:
    """Pinned objects by the 16 bytes of their ids, and their units that were taken aside: key → bytes."""

    def __init__(self) -> None:
        self._objects: dict[bytes, dict[bytes, int]] = {}
        self.used_bytes = 0
        """Bytes of all units that stand aside."""
        self.count = 0
        """Number of them."""

    def pin(self, whole: bytes) -> None:
        """Pin an object; again is nothing."""
        self._objects.setdefault(whole, {})

    def unpin(self, whole: bytes) -> dict[bytes, int]:
        """End an object's pin; its units that stood aside, with their bytes."""
        units = self._objects.pop(whole, {})
        self.used_bytes -= sum(units.values())
        self.count -= len(units)
        return units

    def covers(self, key: bytes) -> bool:
        """Whether a unit is one of a pinned object."""
        return bool(self._objects) and key[:OBJECT_BYTES] in self._objects

    def objects(self) -> tuple[bytes, ...]:
        """Every pinned object."""
        return tuple(self._objects)

    def get(self, key: bytes) -> int | None:
        """Bytes of a unit that stands aside, None for any other."""
        return self._objects.get(key[:OBJECT_BYTES], {}).get(key) if self._objects else None

    def put(self, key: bytes, size_bytes: int) -> None:
        """Take a unit of a pinned object aside, or change its bytes."""
        units = self._objects[key[:OBJECT_BYTES]]
        known = units.get(key)
        self.count += known is None
        self.used_bytes += size_bytes - (known or 0)
        units[key] = size_bytes

    def remove(self, key: bytes) -> int:
        """Forget a unit that stood aside; its bytes, 0 where there was none. The object stays pinned."""
        size_bytes = self._objects.get(key[:OBJECT_BYTES], {}).pop(key, None)
        if size_bytes is None:
            return 0
        self.count -= 1
        self.used_bytes -= size_bytes
        return size_bytes

    def forget_units(self) -> None:
        """Forget every unit; the objects stay pinned."""
        for units in self._objects.values():
            units.clear()
        self.used_bytes = self.count = 0

    def units(self) -> Iterator[tuple[bytes, int]]:
        """Every unit that stands aside, with its bytes."""
        for units in self._objects.values():
            yield from units.items()
