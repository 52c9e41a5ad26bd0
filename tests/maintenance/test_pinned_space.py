"""The space of pins: a share of each volume, and what eviction spares."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import PinRefused
from cacheserver.maintenance.pin import Pin
from cacheserver.maintenance.pinned_space import PinnedSpace
from tests.support.stored import PIECE, found, put, representation, running_store

SMALL = representation("a", 4 * PIECE)
LARGE = representation("a", 60 * PIECE, etag='"2"')


async def test_a_pin_whose_content_has_outgrown_the_share_is_spared_no_more(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=100 * PIECE) as store:
        (volume,) = store.volumes
        pin = Pin("http://a.test/a", SMALL.object_id)
        space = PinnedSpace(store.volumes, {pin.object_id: pin}, percent=50)
        obj = await put(store, SMALL)
        assert space.take(pin, obj)
        assert not space.take(pin, obj), "its space is counted once"
        assert space.on_volume(volume) == (1, obj.file.layout.footer_bytes + 4 * PIECE)
        assert volume.policy.is_pinned(obj.unit(0))
        large = await put(store, LARGE)
        with pytest.raises(PinRefused, match="pinned_percent = 50"):
            space.take(pin, large)
        assert space.on_volume(volume) == (0, 0)
        assert not volume.policy.is_pinned(large.unit(0))


async def test_a_share_may_be_filled_to_its_last_byte_and_not_beyond(tmp_path: Path) -> None:
    async with running_store(tmp_path, capacity_bytes=100 * PIECE) as store:
        needed = (await put(store, SMALL)).file.layout.whole_bytes
    for share, fits in ((needed, True), (needed - 1, False)):
        async with running_store(tmp_path, capacity_bytes=2 * share) as store:
            obj = await found(store, SMALL)
            pin = Pin("http://a.test/a", SMALL.object_id)
            space = PinnedSpace(store.volumes, {pin.object_id: pin}, percent=50)
            if fits:
                assert space.take(pin, obj)
            else:
                with pytest.raises(PinRefused):
                    space.take(pin, obj)
            of_earlier_run = Pin("http://a.test/a", SMALL.object_id, volume=str(tmp_path), size_bytes=needed)
            PinnedSpace(store.volumes, {}, percent=50).give_up_beyond_limit(of_earlier_run)
            assert of_earlier_run.size_bytes == needed * fits
