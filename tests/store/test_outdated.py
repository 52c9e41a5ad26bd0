"""What a purge says of objects that were asked for before it: they are not stored, whatever their origin answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import Outdated
from cacheserver.core.request.keys import object_id
from tests.support.stored import representation, running_store

PLAIN = representation()
_VARIANT_KEY = f"{PLAIN.key}\naccept: en"
VARIANT = replace(PLAIN, key=_VARIANT_KEY, object_id=object_id(_VARIANT_KEY), vary=("accept",))


@pytest.mark.parametrize(
    ("rep", "purged", "refused"),
    [
        (PLAIN, PLAIN.object_id, True),
        (VARIANT, VARIANT.object_id, True),
        (VARIANT, PLAIN.object_id, True),
        (PLAIN, VARIANT.object_id, False),
        (PLAIN, representation("other").object_id, False),
    ],
    ids=["itself", "variant itself", "its primary key", "a variant of it", "another"],
)
async def test_what_was_asked_for_before_the_purge_of_its_key_is_not_stored(
    tmp_path: Path, rep: Representation, purged: str, refused: bool
) -> None:
    async with running_store(tmp_path) as store:
        (volume,) = store.volumes
        before = store.purges
        store.outdate(purged)
        assert store.purged_after(before, rep.object_id, object_id(rep.primary_key)) is refused
        if refused:
            with pytest.raises(Outdated):
                await store.create(rep, since=before)
            assert not store.is_creating(rep.object_id)
            assert (volume.ledger.stored_bytes, volume.ledger.reserved_bytes, volume.object_count) == (0, 0, 0)
        else:
            await store.create(rep, since=before)


async def test_what_is_asked_for_after_a_purge_or_by_nobody_in_particular_is_stored(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        store.outdate(PLAIN.object_id)
        store.outdate(representation("other").object_id)
        assert await store.create(PLAIN, since=store.purges)
        assert await store.create(PLAIN)


async def test_a_purge_is_told_to_those_who_listen_before_it_is_done(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        told: list[tuple[str, int]] = []
        store.notifications.purged.append(lambda each: told.append((each, store.purges)))
        store.outdate(PLAIN.object_id)
        assert told == [(PLAIN.object_id, 1)]
