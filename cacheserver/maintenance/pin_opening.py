"""Finding the object of a pin, or opening it at its origin; what the outcome means for a pin.

Owns: which answers refuse a pin for good and which are only a failure of the moment. Must not decide when to ask.
"""

from __future__ import annotations

from typing import Final

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.errors import (
    AddressRefused,
    GenerationChanged,
    OriginStatus,
    PinRefused,
    StoreError,
    TooManyRedirects,
)
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.outcome import Opening, Relayed
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker

_OF_THE_STORE: Final = frozenset({"store", "store_full", "volume_offline", "disk_error"})


async def opened(store: Store, coordinator: Coordinator, target: Target) -> StoredObject:
    """The usable object at ``target``, asked of its origin where nothing is stored; its pieces need not be there.

    Raises PinRefused for what cannot be pinned; UpstreamError or StoreError for what may pass.
    """
    if not target.service.cacheable:
        raise PinRefused("nothing of this service is stored")
    found = await store.find(target.object_id)
    if isinstance(found, VaryMarker):
        raise _varies(found.names)
    if found is None and store.is_creating(target.object_id):
        raise GenerationChanged("the object is being replaced")
    obj = await _asked(coordinator, target) if found is None or store.should_move(found) else found
    if obj.representation.vary or obj.object_id != target.object_id:
        raise _varies(obj.representation.vary)
    if not obj.usable:
        raise GenerationChanged("the object was replaced")
    return obj


async def _asked(coordinator: Coordinator, target: Target) -> StoredObject:
    try:
        outcome, first = await coordinator.open_in_background(Want(target, Fields()))
    except (AddressRefused, TooManyRedirects) as exc:
        raise PinRefused(str(exc)) from exc
    return _stored(outcome, first)


def _stored(outcome: Opening, first: bool) -> StoredObject:
    """The object of an opening. Raises as ``opened``."""
    if isinstance(outcome, Answered):
        if outcome.meaning.passing:
            raise OriginStatus(outcome.status, outcome.fields, source=outcome.source)
        raise PinRefused(f"the origin answers {outcome.status}")
    if isinstance(outcome, Relayed):
        if not first:
            raise GenerationChanged("a client's request was answered")
        outcome.answer.close()
        if outcome.reason in _OF_THE_STORE:
            raise StoreError(f"it cannot be stored now: {outcome.reason}")
        raise PinRefused(f"the origin's answer may not be stored: {outcome.reason}")
    return outcome.obj


def _varies(names: tuple[str, ...]) -> PinRefused:
    listed = ", ".join(names)
    return PinRefused(f"the origin chooses its answer by request fields (Vary: {listed}): it cannot be pinned")
