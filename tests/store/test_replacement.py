"""One generation takes another's place: it counts as superseded, and its holders hear of a newer generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import DiskError, GenerationChanged, Withdrawn
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.support.meter import CountingMeter
from tests.support.stored import put, representation, running_store

REP = representation()
NEWER = representation(etag='"2"')


async def created_anew(store: Store, _obj: StoredObject) -> None:
    await store.create(NEWER)


async def marked(store: Store, _obj: StoredObject) -> None:
    await store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own")


async def refreshed_in_vain(store: Store, obj: StoredObject) -> None:
    await store.refresh(obj, replace(obj.representation, response_time_s=2e9))


@pytest.mark.parametrize("replaced", [created_anew, marked, refreshed_in_vain])
async def test_who_holds_a_replaced_generation_hears_of_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: Callable[[Store, StoredObject], Awaitable[None]]
) -> None:
    def fails(*_args: object) -> bool:
        raise DiskError("header", errno=5)

    monkeypatch.setattr(ObjectFile, "rewrite_header", fails)
    meter = CountingMeter()
    async with running_store(tmp_path, meter=meter) as store:
        obj = await put(store, REP)
        with obj.holding():
            await replaced(store, obj)
            with pytest.raises(GenerationChanged):
                obj.refuse_gone()
        assert meter.counts["evicted", "superseded"] == 1


@pytest.mark.parametrize("reason", ["purged", "space", "corrupt"])
async def test_who_holds_an_object_that_was_removed_may_ask_a_source_for_the_rest(tmp_path: Path, reason: str) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        with obj.holding():
            await store.forget(REP.object_id, reason=reason)
            with pytest.raises(Withdrawn):
                obj.refuse_gone()
