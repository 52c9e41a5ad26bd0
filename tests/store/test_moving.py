"""Whether an object should move to another volume."""

from __future__ import annotations

import errno
from pathlib import Path

from cacheserver.core.errors import DiskError
from tests.support.stored import HandClock, put_pieces, representation, running_store, take_offline


async def test_one_volume_that_takes_writes_is_enough_to_move_to(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "one", tmp_path / "two", tmp_path / "three", clock=clock) as store:
        obj = await store.create(representation())
        await put_pieces(store, obj, [1])
        for _ in range(2):
            take_offline(obj.volume)
            clock.now_s += 60
        others = [volume for volume in store.volumes if volume is not obj.volume]
        others[0].failed(DiskError("full", errno=errno.ENOSPC))
        assert store.should_move(obj)
        others[1].failed(DiskError("full", errno=errno.ENOSPC))
        assert not store.should_move(obj)
