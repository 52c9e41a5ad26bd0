"""One object in memory: who has sent bytes of a piece that proves bad, and which unit of eviction it is in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cacheserver.store import stored_object
from cacheserver.store.stored_object import USE_WINDOW_S, split_unit, unit_key
from tests.support.stored import EXTENT, PIECE, found, put, put_pieces, representation, running_store

BAD = 1


@pytest.mark.parametrize(
    ("start", "stop", "spoilt"),
    [
        (0, PIECE, False),
        (0, PIECE + 1, True),
        (2 * PIECE - 1, 2 * PIECE, True),
        (2 * PIECE, 3 * PIECE, False),
        (PIECE + 5, PIECE + 5, False),
    ],
    ids=["before it", "its first byte", "its last byte", "behind it", "nothing"],
)
async def test_an_answer_is_spoilt_by_a_piece_of_which_it_has_sent_a_byte(
    tmp_path: Path, start: int, stop: int, spoilt: bool
) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, representation())
        obj.condemn(BAD)
        assert obj.is_spoilt(0, start, stop) is spoilt
        assert not obj.is_spoilt(1, start, stop), "it began after that"


def test_a_unit_names_its_object_and_its_extent() -> None:
    object_id = "0123456789abcdef" * 2
    for extent, size in ((None, 16), (0, 18), (65_535, 18)):
        unit = unit_key(object_id, extent)
        assert (len(unit), split_unit(unit)) == (size, (object_id, extent))


async def test_uses_within_a_minute_are_one_use_of_their_extent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(stored_object, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    async with running_store(tmp_path) as store:
        obj = await put(store, representation())
        seen = [obj.used_again(extent) for extent in (0, 0, 1)]
        now_s[0] += USE_WINDOW_S
        assert [*seen, obj.used_again(0)] == [True, False, True, True]


@pytest.mark.parametrize("length", [0, PIECE])
async def test_an_object_of_which_no_piece_came_is_used_and_known_after_a_stop_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    rep, touched = representation("bare", length), list[bytes]()
    async with running_store(tmp_path) as store:
        obj = await store.create(rep)
        monkeypatch.setattr(store.volumes[0].policy, "touch", touched.append)
        store.touch(obj, 0, 0)
        assert touched == [obj.unit(0)]
    async with running_store(tmp_path) as store:
        assert (await found(store, rep)).representation == rep


async def test_every_extent_that_has_a_piece_can_be_evicted(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        obj, policy = await store.create(representation("large", 4 * EXTENT)), store.volumes[0].policy
        with obj.holding():
            await put_pieces(store, obj, [0, 2 * EXTENT // PIECE])
        assert [obj.unit(extent) in policy for extent in range(4)] == [True, False, True, False]
