"""The space ledger of one volume (I4): stored + reserved ≤ capacity, and each reserve ends in commits or a release.

Owns four numbers of bytes. Must not touch the disk or choose victims. Single-threaded by contract: the event loop
calls it, and no method awaits, so that every change is seen whole.

Only what is already on disk may stand above the capacity (a smaller ``max_size`` after a restart, a file found by
recovery). ``free_bytes`` is negative then and nothing is granted until enough was given back.
"""

from __future__ import annotations

from typing import Final

from cacheserver.core.errors import StoreFull


class Ledger:
    """Bytes stored and reserved on one volume."""

    def __init__(self, *, capacity_bytes: int) -> None:
        if capacity_bytes < 0:
            raise ValueError("capacity_bytes must not be negative")
        self.capacity_bytes: Final = capacity_bytes
        self.stored_bytes = 0
        """Bytes that objects hold."""
        self.reserved_bytes = 0
        """Bytes promised to fills and not committed yet."""
        self.leaving_bytes = 0
        """Bytes of objects that were removed and whose file is not: readers hold it, or the disk refused."""
        self._started = False

    @property
    def free_bytes(self) -> int:
        """Bytes that can be reserved; negative while more is on disk than the capacity."""
        return self.capacity_bytes - self.stored_bytes - self.reserved_bytes - self.leaving_bytes

    def set_stored(self, stored_bytes: int) -> None:
        """Say what is on disk at the start. Raises ValueError the second time, or when anything happened before."""
        if self._started or stored_bytes < 0:
            raise ValueError("set_stored is called once, first, and not with a negative number")
        self._started = True
        self.stored_bytes = stored_bytes

    def reserve(self, amount_bytes: int) -> Reservation:
        """Promise ``amount_bytes``. Raises StoreFull, whose ``missing_bytes`` would have to be given back first."""
        if amount_bytes < 0:
            raise ValueError("amount_bytes must not be negative")
        missing_bytes = amount_bytes - self.free_bytes
        if missing_bytes > 0:
            raise StoreFull(f"{missing_bytes} bytes are missing on this volume", missing_bytes=missing_bytes)
        self._move(reserved_bytes=amount_bytes)
        assert self.free_bytes >= 0, "I4: granted more than the capacity"
        return Reservation(self, amount_bytes)

    def give_back(self, amount_bytes: int) -> None:
        """Stored bytes were removed from the disk. Raises ValueError for a negative amount."""
        if amount_bytes < 0:
            raise ValueError("amount_bytes must not be negative")
        self._move(stored_bytes=-amount_bytes)

    def leave(self, amount_bytes: int) -> None:
        """A stored object was removed; its blocks are free once it is ``gone``."""
        self.give_back(amount_bytes)
        self.arrive(amount_bytes)

    def arrive(self, amount_bytes: int) -> None:
        """The disk holds a file of no object; its blocks are free once it is ``gone``."""
        self.leaving_bytes += amount_bytes

    def gone(self, amount_bytes: int) -> None:
        """The file of a removed object is gone, and its last reader has left."""
        self.leaving_bytes -= amount_bytes
        assert self.leaving_bytes >= 0, "I4: more has gone than was removed"

    def correct(self, delta_bytes: int) -> None:
        """The disk was found to hold more (or fewer) bytes than counted; may lead above the capacity."""
        self._move(stored_bytes=delta_bytes)

    def _move(self, *, stored_bytes: int = 0, reserved_bytes: int = 0) -> None:
        assert self.stored_bytes + stored_bytes >= 0, "I4: more given back than was stored"
        assert self.reserved_bytes + reserved_bytes >= 0, "I4: more released than was reserved"
        self._started = True
        self.stored_bytes += stored_bytes
        self.reserved_bytes += reserved_bytes


class Reservation:
    """Bytes promised to one writer; commit what was written, then release. As a context it releases the rest."""

    __slots__ = ("_ledger", "remaining_bytes")

    def __init__(self, ledger: Ledger, amount_bytes: int) -> None:
        """Only ``Ledger.reserve`` makes one."""
        self._ledger = ledger
        self.remaining_bytes = amount_bytes
        """Promised and neither committed nor released."""

    def is_of(self, ledger: Ledger) -> bool:
        """Whether it was granted by this ledger, and not by one of which the volume was lost since."""
        return self._ledger is ledger

    def commit(self, amount_bytes: int) -> None:
        """Count ``amount_bytes`` of the promise as stored; may be called for part after part.

        Raises ValueError for more than ``remaining_bytes`` (always after a release) or a negative amount.
        """
        if not 0 <= amount_bytes <= self.remaining_bytes:
            raise ValueError(f"cannot commit {amount_bytes} of {self.remaining_bytes} reserved bytes")
        self.remaining_bytes -= amount_bytes
        self._ledger._move(stored_bytes=amount_bytes, reserved_bytes=-amount_bytes)

    def release(self) -> None:
        """Give up the rest; again is nothing."""
        rest, self.remaining_bytes = self.remaining_bytes, 0
        self._ledger._move(reserved_bytes=-rest)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
