"""Object files whose removal is pending or failed.

Owns: the list of one volume, and when to try again. An object is in it from before its file is removed until the
removal has worked or a newer generation has taken the file's place; meanwhile it cannot be found on this volume. The
list is in memory, and in the mark of a clean stop. What a refused file takes stays in the ledger, as leaving. Must not
touch the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cacheserver.ports import Clock
from cacheserver.store.ledger import Ledger

_AT_ONCE = 8
_UNDER_WAY = float("inf")


class Leftovers:
    """The leftovers of one volume by object id; each is due again ``retry_s`` after its disk has refused."""

    def __init__(self, ledger: Ledger, *, clock: Clock, retry_s: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._retry_s = retry_s
        self._due_s: dict[str, float] = {}
        """Monotonic time of the next try, the longest untried first."""
        self._held_bytes: dict[str, int] = {}
        """What each refused file takes, where that is known."""

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._due_s

    def __len__(self) -> int:
        return len(self._due_s)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Object id and bytes of each."""
        return ((object_id, self._held_bytes.get(object_id, 0)) for object_id in self._due_s)

    def known(self, object_id: str, held_bytes: int) -> None:
        """An earlier run has left its file, which takes ``held_bytes``; it is due at once."""
        self._due_s[object_id] = self._clock.monotonic_s()
        self._ledger.arrive(held_bytes)
        self._held_bytes[object_id] = held_bytes

    def trying(self, object_id: str) -> None:
        """Its file is about to be removed."""
        self._due_s.pop(object_id, None)
        self._due_s[object_id] = _UNDER_WAY

    def refused(self, object_id: str, leaving_bytes: int) -> bool:
        """The disk refused the removal: ``leaving_bytes`` of the ledger leave with the file.

        False, and no effect, where a newer generation has taken the file's place meanwhile.
        """
        if object_id not in self._due_s:
            return False
        self._due_s[object_id] = self._clock.monotonic_s() + self._retry_s
        self._held_bytes[object_id] = self._held_bytes.get(object_id, 0) + leaving_bytes
        return True

    def gone(self, object_id: str) -> None:
        """Its file was removed or replaced; an unknown id is fine."""
        self._due_s.pop(object_id, None)
        self._ledger.gone(self._held_bytes.pop(object_id, 0))

    def is_due(self, object_id: str) -> bool:
        """Whether it is in the list and may be tried again."""
        return self._due_s.get(object_id, _UNDER_WAY) <= self._clock.monotonic_s()

    def due(self) -> list[str]:
        """A few that may be tried again."""
        return list(islice(filter(self.is_due, self._due_s), _AT_ONCE))
