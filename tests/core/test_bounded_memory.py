"""The bounded memory: bounds by number and weight, lifetimes, order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.bounded_memory import BoundedMemory


def test_a_value_is_kept_until_its_end_and_not_at_it() -> None:
    memory = BoundedMemory[str, int](4)
    memory.keep("a", 1, until_s=10.0)
    assert [memory.get("a", now_s) for now_s in (0.0, 9.999, 10.0, 11.0)] == [1, 1, None, None]


def test_a_value_without_an_end_stays() -> None:
    memory = BoundedMemory[str, int](4)
    memory.keep("a", 1)
    assert memory.get("a", 1e300) == 1
    assert memory.get("b", 0.0) is None


def test_what_was_kept_longest_ago_makes_room() -> None:
    memory = BoundedMemory[str, int](2)
    for number, key in enumerate("aba"):
        memory.keep(key, number)
    memory.keep("c", 3)
    assert list(memory.items()) == [("a", 2), ("c", 3)]


def test_what_was_touched_goes_last() -> None:
    memory = BoundedMemory[str, int](2)
    memory.keep("a", 1)
    memory.keep("b", 2)
    memory.touch("a")
    memory.touch("nothing")
    memory.keep("c", 3)
    assert [key for key, _ in memory.items()] == ["a", "c"]


def test_what_is_forgotten_or_cleared_is_gone() -> None:
    memory = BoundedMemory[str, int](4)
    memory.keep("a", 1)
    memory.forget("a")
    memory.forget("a")
    memory.keep("b", 2)
    memory.clear()
    assert len(memory) == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50))))
def test_number_and_weight_stay_within_their_bounds(steps: list[tuple[str, int]]) -> None:
    memory = BoundedMemory[str, int](3, weigh=lambda value: value, weight_limit=60)
    for key, weight in steps:
        memory.keep(key, weight)
        kept = dict(memory.items())
        assert len(kept) <= 3
        assert sum(kept.values()) <= 60
        assert kept[key] == weight


def test_a_value_heavier_than_the_bound_is_not_kept() -> None:
    memory = BoundedMemory[str, int](3, weigh=lambda value: value, weight_limit=60)
    memory.keep("a", 61)
    assert len(memory) == 0
    memory.keep("b", 60)
    assert memory.get("b") == 60
