"""Object files that are to go and that the disk may not have let go of yet.

Owns: which they are on one volume, and when to try again. An object is among them from before its file is removed
until that has worked or a newer generation has taken the file's place; meanwhile nobody finds it on this volume. Known
to the running node alone. Must not touch the disk.
"""

from __future__ import annotations

from cacheserver.ports import Clock

_AT_ONCE = 8
_UNDER_WAY = float("inf")


class Leftovers:
    """The leftovers of one volume by object id; each is due again ``retry_s`` after its disk has refused."""

    def __init__(self, *, clock: Clock, retry_s: float) -> None:
        self._clock = clock
        self._retry_s = retry_s
        self._due_s: dict[str, float] = {}
        """Monotonic time of the next try, the longest untried first."""

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._due_s

    def __len__(self) -> int:
        return len(self._due_s)

    def trying(self, object_id: str) -> None:
        """Its file is about to be removed."""
        self._due_s.pop(object_id, None)
        self._due_s[object_id] = _UNDER_WAY

    def refused(self, object_id: str) -> None:
        """The disk has not let it go; nothing where a newer generation has taken its place meanwhile."""
        if object_id in self._due_s:
            self._due_s[object_id] = self._clock.monotonic_s() + self._retry_s

    def gone(self, object_id: str) -> None:
        """Its file is removed, or replaced; one that is not among them is fine."""
        self._due_s.pop(object_id, None)

    def is_due(self, object_id: str) -> bool:
        """Whether it is one, and may be tried again."""
        return self._due_s.get(object_id, _UNDER_WAY) <= self._clock.monotonic_s()

    def due(self) -> list[str]:
        """A few that may be tried again."""
        now_s, found = self._clock.monotonic_s(), list[str]()
        for object_id, due_s in self._due_s.items():
            if due_s == _UNDER_WAY:
                continue
            if due_s > now_s or len(found) == _AT_ONCE:
                break  # those behind it were refused later
            found.append(object_id)
        return found
