"""Slots of eviction units are recycled and keep their queue."""

from __future__ import annotations

from cacheserver.core.unit_table import MAIN, SMALL, UnitTable


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
