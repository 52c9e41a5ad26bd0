"""Removal of content by its id, with every variant that was stored under its URL.

Owns: finding the variants of a primary key, which have ids of their own (RFC 9111 §4.1). Must not touch files or rows;
the store does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cacheserver.core.errors import StoreError
from cacheserver.core.request.keys import object_id as id_of
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of a purge; volumes by their paths."""

    removed: int
    """Objects that can no longer be found."""
    away: tuple[str, ...]
    """Offline volumes: their objects may be found when they are back, so that a further purge is due then."""
    left_on: tuple[str, ...]
    """Volumes whose disk refused a removal: the file is not found while the node runs, but it is still there."""


async def purge(store: Store, object_id: str) -> Purged:
    """Forget the object at an id, or with a Vary marker there every variant.

    The marker's variants have to be looked for in the headers of all objects of its service. It stays while a volume is
    away that may hold further ones: it is what leads to them. What was asked for before the purge is not stored after
    it.
    """
    store.outdate(object_id)
    ids, removed = [object_id], 0
    if isinstance(await store.find(object_id), VaryMarker):
        ids = [variant async for variant in _variants(store, object_id)]
        if all(volume.online for volume in store.volumes):
            ids.append(object_id)
    for each in ids:
        removed += await store.forget(each, reason="purged")
    away = tuple(volume.path for volume in store.volumes if not volume.online)
    left_on = tuple(volume.path for volume in store.volumes if any(each in volume.leftovers for each in ids))
    return Purged(removed, away, left_on)


async def _variants(store: Store, primary_id: str) -> AsyncIterator[str]:
    store.write_rows()
    for volume in store.volumes:
        if not volume.online:
            continue
        with contextlib.suppress(StoreError):
            await volume.catalogue.flush()
        async for object_id, _row in volume.catalogue.objects(store.executor):
            with store.visiting(object_id):
                obj = await store.find(object_id)
            rep = obj.representation if isinstance(obj, StoredObject) else None
            if rep is not None and rep.vary and id_of(rep.primary_key) == primary_id:
                yield object_id
