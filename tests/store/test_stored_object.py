"""One object in memory: who has sent bytes of a piece that proves bad, and which unit of eviction it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.store.stored_object import split_unit, unit_key
from tests.support.stored import PIECE, put, representation, running_store

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
