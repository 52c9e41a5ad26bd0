"""Looking up the stored object for a want, by way of a Vary marker where the origin varies.

Owns: which of the store's objects is the one that a request selects, and whether it may be given out. Must not judge
freshness or start fills.
"""

from __future__ import annotations

from cacheserver.core.http.vary import variant_key
from cacheserver.core.request.keys import object_id
from cacheserver.fill.asking import Asker, Want
from cacheserver.fill.judging import Judge
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker


class Lookup:
    """Finds stored objects."""

    def __init__(self, *, store: Store, asker: Asker, judge: Judge) -> None:
        self._store = store
        self._judge = judge
        self._asker = asker

    def peek(self, want: Want) -> StoredObject | None:
        """The stored object for a want if it is open already; no I/O (I6)."""
        key, marker, found = want.target.key, 0, self._store.peek(want.target.object_id)
        if isinstance(found, VaryMarker):
            key, marker = self._variant_key(want, found), found.number
            found = self._store.peek(object_id(key))
        obj = self._usable(found, key, marker)
        return obj if obj is not None and self._judge.is_judged(obj) else None

    async def find(self, want: Want) -> StoredObject | None:
        """The stored object for a want, whatever its freshness; None for one that may not be given out."""
        key, marker, found = want.target.key, 0, await self._store.find(want.target.object_id)
        if isinstance(found, VaryMarker):
            key, marker = self._variant_key(want, found), found.number
            found = await self._store.find(object_id(key))
        obj = self._usable(found, key, marker)
        return obj if obj is not None and await self._judge.admits(obj, want.target) else None

    def _usable(self, found: StoredObject | VaryMarker | None, key: str, marker: int) -> StoredObject | None:
        """What was found, if it has this key and marker; None for what is to be stored anew on another volume."""
        if not isinstance(found, StoredObject) or self._store.should_move(found):
            return None
        known = found.representation
        return found if (known.key, known.marker) == (key, marker) else None

    def _variant_key(self, want: Want, marker: VaryMarker) -> str:
        return variant_key(want.target.key, marker.names, self._asker.upstream_fields(want))
