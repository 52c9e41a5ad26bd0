"""Halves of a node that were apart: what was pinned stays pinned, what was ended later stays ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.maintenance.pins_file import EndedPin, SavedPin, SavedPins
from cacheserver.maintenance.pins_merge import merged


def pin(name: str, changed: int) -> SavedPin:
    return SavedPin(f"http://a.test/{name}", name * 32, changed=changed)


def record(number: int, *entries: SavedPin | EndedPin) -> SavedPins:
    return SavedPins(
        number,
        tuple(entry for entry in entries if isinstance(entry, SavedPin)),
        tuple(entry for entry in entries if isinstance(entry, EndedPin)),
    )


def end(name: str, changed: int) -> EndedPin:
    return EndedPin(name * 32, changed)


@pytest.mark.parametrize(
    ("here", "there", "pinned"),
    [
        (record(1, pin("d", 1)), record(3, pin("a", 1), pin("b", 2), pin("c", 3)), "abcd"),
        (record(3, pin("b", 2), end("a", 3)), record(2, pin("a", 1), pin("b", 2)), "b"),
        (record(6, pin("a", 1), pin("d", 6)), record(7, pin("c", 7), end("a", 6)), "cd"),
        (record(4, pin("a", 4)), record(3, end("a", 3)), "a"),
        (record(3, pin("a", 3)), record(3, end("a", 3)), "a"),
        (record(5, end("a", 5)), record(9, pin("a", 0)), ""),
        (record(0), record(9, pin("a", 0)), "a"),
    ],
    ids=["pins-of-both", "ended-here", "ended-there", "pinned-again", "one-number", "earlier-version", "nothing-here"],
)
def test_of_each_content_the_later_change_holds(here: SavedPins, there: SavedPins, pinned: str) -> None:
    for both in (merged(here, there), merged(there, here)):
        assert sorted(known.object_id[0] for known in both.pins) == list(pinned)
        assert both.number == max(here.number, there.number)


entries = st.lists(
    st.tuples(st.sampled_from([pin, end]), st.sampled_from("abc"), st.integers(0, 4)), unique_by=lambda entry: entry[1]
).map(lambda found: [make(name, at) for make, name, at in found])
records = st.builds(lambda number, found: record(number, *found), st.integers(0, 9), entries)


@given(records, records)
def test_the_order_in_which_volumes_come_changes_nothing(one: SavedPins, other: SavedPins) -> None:
    first, second = merged(one, other), merged(other, one)
    assert (set(first.pins), first.ended, first.number) == (set(second.pins), second.ended, second.number)
    assert merged(first, other) == first
    assert not {known.object_id for known in first.pins} & {known.object_id for known in first.ended}
