"""The ghost list remembers the last evictions, and only those."""

from __future__ import annotations

from cacheserver.core.ghost import Ghost


def unit(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_ghost_list_forgets_the_oldest() -> None:
    ghost = Ghost(64)
    for number in range(1000):
        ghost.add(unit(number))
    assert not any(ghost.take(unit(number), 1000) for number in range(936))
    assert sum(ghost.take(unit(number), 1000) for number in range(936, 1000)) >= 56


def test_ghost_list_answers_once_and_only_within_the_window() -> None:
    ghost = Ghost(64)
    ghost.add(unit(0))
    ghost.add(unit(1))
    assert not ghost.take(unit(0), 1)
    assert ghost.take(unit(1), 1)
    assert not ghost.take(unit(1), 1)


def test_ghost_list_keeps_one_entry_for_a_key_added_again() -> None:
    ghost = Ghost(64)
    for _ in range(200):
        ghost.add(unit(0))
    assert ghost.take(unit(0), 1)
    assert not ghost.take(unit(0), 64)
