"""The space of pins: a share of each volume, and what eviction spares."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import PinRefused
from cacheserver.maintenance.pin import Pin
from cacheserver.maintenance.pinned_space import PinnedSpace
from tests.support.stored import PIECE, put, representation, running_store

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
