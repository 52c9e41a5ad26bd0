"""Removing content by its id, all that was stored under its URL included.

Owns: finding the variants of a primary key, which have ids of their own (RFC 9111 §4.1). Must not touch files or rows;
the store does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cacheserver.core.errors import StoreError
from cacheserver.core.keys import object_id as id_of
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge has done."""

    removed: int
    """Objects that nobody finds any more."""
    unreached: tuple[str, ...]
    """Volumes that were away, or whose disk did not let a file go: to be asked again when they are back."""


async def purge(store: Store, object_id: str) -> Purged:
    """Forget what stands at an id, and every variant where a Vary marker stands there.

    The marker's variants have to be looked for in the headers of all objects of its service.
    """
    ids = [object_id]
    if isinstance(await store.find(object_id), VaryMarker):
        ids += [variant async for variant in _variants(store, object_id)]
    removed = 0
    for each in ids:
        removed += await store.forget(each, reason="purged")
    left = (volume for volume in store.volumes if not volume.online or not volume.leftovers.keys().isdisjoint(ids))
    return Purged(removed, tuple(volume.path for volume in left))


async def _variants(store: Store, primary_id: str) -> AsyncIterator[str]:
    store.write_rows()
    for volume in store.volumes:
        if not volume.online:
            continue
        with contextlib.suppress(StoreError):
            await volume.catalogue.flush()
        async for object_id in _ids(store, volume):
            was_open = store.peek_quietly(object_id) is not None
            obj = await store.find(object_id)
            if not was_open:
                store.cool(object_id)
            if isinstance(obj, StoredObject) and obj.representation.vary:
                primary_key = obj.representation.key.rpartition("\n")[0]
                if id_of(primary_key) == primary_id:
                    yield object_id


async def _ids(store: Store, volume: Volume) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    start: str | None = ""
    while start is not None:
        rows, start = await loop.run_in_executor(store.executor, volume.catalogue.page, start)
        for object_id, record in rows:
            if not record.vary:
                yield object_id
