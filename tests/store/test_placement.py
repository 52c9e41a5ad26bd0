"""Which volume an object belongs to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cacheserver.core.errors import DiskError
from cacheserver.core.request.keys import object_id
from cacheserver.store.placement import preferred_order
from cacheserver.store.volume import Volume
from tests.support.stored import HandClock, put, representation, running_store, volume_at

IDS = [object_id(f"http://a.test/{number}") for number in range(3000)]


def volumes(*sizes: int) -> list[Volume]:
    return [volume_at(Path(f"/drive/{number}"), capacity_bytes=size) for number, size in enumerate(sizes)]


def test_every_volume_is_in_the_order_once_and_the_order_is_stable() -> None:
    drives = volumes(100, 200, 300)
    for each in IDS[:100]:
        order = preferred_order(drives, each)
        assert sorted(order, key=id) == sorted(drives, key=id)
        assert order == preferred_order(list(reversed(drives)), each)


def test_shares_follow_the_capacities() -> None:
    drives = volumes(100, 300)
    firsts = Counter(preferred_order(drives, each)[0].path for each in IDS)
    assert 0.70 < firsts[drives[1].path] / len(IDS) < 0.80


def test_a_new_drive_takes_its_share_and_moves_nothing_else() -> None:
    drives = volumes(100, 100, 100)
    before = {each: preferred_order(drives[:2], each)[0] for each in IDS}
    after = {each: preferred_order(drives, each)[0] for each in IDS}
    moved = [each for each in IDS if before[each] is not after[each]]
    assert all(after[each] is drives[2] for each in moved)
    assert 0.28 < len(moved) / len(IDS) < 0.39


def test_one_volume_is_its_own_order() -> None:
    drives = volumes(100)
    assert preferred_order(drives, IDS[0]) is drives


async def test_objects_go_to_the_next_drive_while_their_own_is_away_and_are_found_there(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_store(tmp_path / "0", tmp_path / "1", clock=clock) as store:
        rep = representation()
        best, other = preferred_order(store.volumes, rep.object_id)
        for _ in range(3):
            best.failed(DiskError("gone", errno=5))
        assert (await put(store, rep)).volume is other
        clock.now_s += 60
        found = await store.find(rep.object_id)
        assert found is store.peek(rep.object_id) is not None
    async with running_store(tmp_path / "0", tmp_path / "1") as store:
        assert await store.find(rep.object_id) is not None
        assert (store.volumes[0].object_count, store.volumes[1].object_count) in ((0, 1), (1, 0))
