"""The ghost list remembers the last evictions, and only those."""

from __future__ import annotations

from cacheserver.core.eviction.ghost import Ghost


def unit(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_ghost_list_forgets_the_oldest() -> None:
    ghost = Ghost(64)
    for number in range(1000):
        ghost.add(unit(number), 1)
    assert not any(ghost.take(unit(number)) for number in range(936))
    assert sum(ghost.take(unit(number)) is not None for number in range(936, 1000)) >= 56


def test_ghost_list_answers_once_with_the_evictions_since_and_the_bytes() -> None:
    ghost = Ghost(64)
    ghost.add(unit(0), 4096)
    ghost.add(unit(1), 4097)
    ghost.add(unit(2), 0)
    ghost.add(unit(3), 2**62)
    assert ghost.take(unit(0)) == (3, 4096)
    assert ghost.take(unit(1)) == (2, 8192)
    assert ghost.take(unit(2)) == (1, 0)
    assert ghost.take(unit(3)) == (0, (2**32 - 1) * 4096)
    assert ghost.take(unit(1)) is None


def test_ghost_list_keeps_one_entry_for_a_key_added_again() -> None:
    ghost = Ghost(64)
    for _ in range(200):
        ghost.add(unit(0), 1)
    assert ghost.take(unit(0)) == (0, 4096)
    assert ghost.take(unit(0)) is None
