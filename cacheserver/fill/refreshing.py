"""Taking up what a later answer says of a stored object: fields, times, and that it may not be kept any longer.

Owns: writing that down. The rule is ``core.cache.updating``. Must not ask a source.
"""

from __future__ import annotations

from dataclasses import replace

from cacheserver.core.cache.question import speaks_for_all
from cacheserver.core.cache.updating import Update, speaks_anew, updated
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target
from cacheserver.fill.outcome import Stored
from cacheserver.ports import UpstreamAnswer
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject


async def refresh(
    store: Store,
    obj: StoredObject,
    answer: UpstreamAnswer,
    *,
    request: Fields,
    target: Target,
    marker: int | None = None,
) -> Stored:
    """Take up the fields and times of an answer that says: what is stored still holds.

    ``request`` and ``target``: what it was for. ``marker``: the Vary marker that leads to the object from now on. An
    object that may not be kept is used once more, by those who asked for it; where the request does not speak for all
    clients, the object stays as it is.
    """
    known = obj.representation
    update = Update(answer.fields, answer.request_time_s, answer.response_time_s, answer.secure)
    refreshed, kept = updated(known, update, request=request, service=target.service)
    if not kept and not speaks_for_all(known, target, request):
        return Stored(obj)
    await store.refresh(obj, replace(refreshed, marker=known.marker if marker is None else marker))
    return Stored(obj, leaves=not kept)


async def take_up_part(
    store: Store, obj: StoredObject, answer: UpstreamAnswer, *, request: Fields, target: Target
) -> bool:
    """Take up what a later part of an object says of caching (RFC 9111 §3.4); whether the object may be kept."""
    if not speaks_anew(obj.representation, answer.fields):
        return True
    return not (await refresh(store, obj, answer, request=request, target=target)).leaves


async def part_with(store: Store, obj: StoredObject) -> None:
    """Remove an object that may not be kept; one that is being filled stays, invalid, until it is asked for again."""
    if obj.pieces.complete or not obj.held:
        await store.retire(obj, reason="superseded")
