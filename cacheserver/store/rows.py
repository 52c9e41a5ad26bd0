"""Catalogue rows of open objects, written a moment after they have changed.

Owns: the rows that are due. A row is an index entry only: a lost one is rebuilt from the object's file.
"""

from __future__ import annotations

import asyncio

from cacheserver.store.stored_object import StoredObject

_DELAY_S = 1.0


class Rows:
    """Rows that are due."""

    def __init__(self) -> None:
        self._due: set[StoredObject] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, obj: StoredObject) -> bool:
        return obj in self._due

    def note(self, obj: StoredObject) -> None:
        """Have the object's row written within a second."""
        self._due.add(obj)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY_S, self.write)

    def drop(self, obj: StoredObject) -> None:
        """Do not write the row of an object that was removed."""
        self._due.discard(obj)

    def write(self) -> None:
        """Hand every changed row to the catalogue's writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for obj in self._due:
            obj.volume.catalogue.put(obj.object_id, obj.row())
        self._due.clear()
