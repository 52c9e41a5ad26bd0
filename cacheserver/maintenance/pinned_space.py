"""Space for pinned content: how much of each volume it may take, and which objects eviction must spare.

Owns: the volume and size of each pin, and its units in the eviction policies. Must not decide which pins there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cacheserver.core.errors import PinRefused
from cacheserver.core.units import format_size
from cacheserver.maintenance.pin import Pin
from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume


class PinnedSpace:
    """The space of all ``pins``, by object id; ``percent`` of each volume may be pinned."""

    def __init__(self, volumes: Sequence[Volume], pins: Mapping[str, Pin], *, percent: int) -> None:
        self._volumes = volumes
        self._pins = pins
        self._percent = percent

    def on_volume(self, volume: Volume) -> tuple[int, int]:
        """Pinned objects on a volume, and the bytes that they take there whole."""
        sizes = [pin.size_bytes for pin in self._pins.values() if pin.volume == volume.path]
        return len(sizes), sum(sizes)

    def take(self, pin: Pin, obj: StoredObject) -> bool:
        """Count a pin's whole size on its volume, and have eviction spare it; False where that is so already.

        Raises PinRefused where it would be too much; the pin has no space then.
        """
        volume, needed = obj.volume, obj.file.layout.whole_bytes
        if (pin.volume, pin.size_bytes) == (volume.path, needed):
            return False
        taken = self.on_volume(volume)[1] - (pin.size_bytes if pin.volume == volume.path else 0)
        if taken + needed > self._limit_bytes(volume):
            self.give_up(pin)
            raise PinRefused(
                f"pinned content may take {format_size(self._limit_bytes(volume))} of {volume.path} "
                f"(store.pinned_percent = {self._percent}); {format_size(taken)} are taken and this needs "
                f"{format_size(needed)}"
            )
        pin.volume, pin.size_bytes = volume.path, needed
        self.keep(pin)
        return True

    def give_up_beyond_limit(self, pin: Pin) -> None:
        """Give up the space of a pin of an earlier run where its volume is gone or has become too small for it."""
        volume = next((volume for volume in self._volumes if volume.path == pin.volume), None)
        if volume is None or self.on_volume(volume)[1] + pin.size_bytes > self._limit_bytes(volume):
            pin.volume, pin.size_bytes = "", 0

    def keep(self, pin: Pin) -> None:
        """Have eviction spare a pin that has space."""
        if pin.volume:
            for volume in self._volumes:
                volume.policy.pin(bytes.fromhex(pin.object_id))

    def give_up(self, pin: Pin) -> None:
        """Give up a pin's space; eviction may choose its object from now on."""
        pin.volume, pin.size_bytes = "", 0
        for volume in self._volumes:
            volume.policy.unpin(bytes.fromhex(pin.object_id))

    def _limit_bytes(self, volume: Volume) -> int:
        return volume.ledger.capacity_bytes * self._percent // 100
