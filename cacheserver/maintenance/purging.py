"""Removing content by its id, all that was stored under its URL included.

Owns: finding the variants of a primary key, which have ids of their own (RFC 9111 §4.1). Must not touch files or rows;
the store does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from cacheserver.core.errors import StoreError
from cacheserver.core.keys import object_id as id_of
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from cacheserver.store.volume import Volume


async def purge(store: Store, object_id: str) -> int:
    """Forget what stands at an id, and every variant where a Vary marker stands there; how many objects that were.

    The marker's variants have to be looked for in the headers of all objects of its service.
    """
    found = await store.find(object_id)
    if found is None:
        return 0
    removed = 0
    if isinstance(found, VaryMarker):
        async for variant in _variants(store, object_id):
            await store.forget(variant, reason="purged")
            removed += 1
    await store.forget(object_id, reason="purged")
    return removed + isinstance(found, StoredObject)


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
