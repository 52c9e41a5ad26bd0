"""Slots of eviction units are recycled and keep their queue."""

from __future__ import annotations

from cacheserver.core.eviction.unit_table import MAIN, SMALL, UnitTable


def unit(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_slots_of_departed_units_are_used_again() -> None:
    table = UnitTable()
    for _ in range(1000):
        slot = table.insert(unit(1), 5, SMALL)
        table.unlink(slot)
        table.discard(slot)
    assert len(table.keys) == 2


def test_queue_of_a_unit_is_kept_by_a_touch() -> None:
    table = UnitTable()
    slot = table.insert(unit(0), 1, MAIN)
    for _ in range(10):
        table.raise_frequency(slot)
    assert table.queue_of(slot) == MAIN
    assert table.frequency(slot) == 3


def test_expected_units_find_the_room_that_growth_would_have_made() -> None:
    grown, expected = UnitTable(), UnitTable()
    for number in range(100):
        expected.insert(unit(number), 1, SMALL)
    expected.expect(5000)
    room = [len(table) for table in expected._index]
    for number in range(5000):
        grown.insert(unit(number), 1, SMALL)
        if number >= 100:
            expected.insert(unit(number), 1, SMALL)
    assert [expected.find(unit(number)) for number in range(5000)] == list(range(1, 5001))
    assert sum(room) <= 2 * sum(len(table) for table in grown._index)
    grown_since = sum(len(table) > before for table, before in zip(expected._index, room, strict=True))
    assert grown_since < 128  # the tables that happen to get many more than their share


def test_fewer_expected_units_than_there_are_change_nothing() -> None:
    table = UnitTable()
    for number in range(5000):
        table.insert(unit(number), 1, SMALL)
    room = [len(part) for part in table._index]
    table.expect(10)
    assert [len(part) for part in table._index] == room
    assert table.find(unit(4999)) == 5000


def test_a_damaged_count_of_units_reserves_no_more_than_a_large_cache_needs() -> None:
    table = UnitTable()
    table.expect(2**60)
    assert sum(len(part) for part in table._index) <= 2**25
