"""The piece map against a model that keeps one state per byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.piece_map import ABSENT, PRESENT, STORED, PieceMap

SIZE = 8
STATES = st.lists(st.sampled_from([ABSENT, STORED, PRESENT]), min_size=0, max_size=12)


@st.composite
def piece_maps(draw: st.DrawFn) -> PieceMap:
    """A map with pieces of SIZE bytes, of which the last may be short."""
    states = draw(STATES)
    short = draw(st.integers(0, SIZE - 1)) if states else 0
    return PieceMap(len(states) * SIZE - short, SIZE, bytes(states))


def byte_states(pieces: PieceMap) -> list[int]:
    """The state of every byte of the object."""
    return [pieces.state(offset // SIZE) for offset in range(pieces.length_bytes)]


@given(piece_maps(), st.data())
def test_runs_reach_up_to_the_first_byte_that_is_not_there(pieces: PieceMap, data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, pieces.length_bytes))
    offset = data.draw(st.integers(0, stop))
    states = byte_states(pieces)
    for found, least in ((pieces.present_until(offset, stop), PRESENT), (pieces.stored_until(offset, stop), STORED)):
        expected = next((at for at in range(offset, stop) if states[at] < least), stop)
        assert found == expected


@given(piece_maps(), st.data())
def test_a_covering_span_holds_every_byte_and_no_piece_too_many(pieces: PieceMap, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, max(0, pieces.length_bytes - 1)))
    stop = data.draw(st.integers(start, pieces.length_bytes))
    first, end = pieces.covering(start, stop)
    if start < stop:
        assert set(range(first, end)) == {offset // SIZE for offset in range(start, stop)}
    assert end <= len(pieces)


@given(piece_maps())
def test_the_bounds_of_all_pieces_tile_the_object(pieces: PieceMap) -> None:
    tiles = [pieces.bounds(piece) for piece in range(len(pieces))]
    assert [offset for start, stop in tiles for offset in range(start, stop)] == list(range(pieces.length_bytes))
    assert all(pieces.size_bytes(piece) == stop - start > 0 for piece, (start, stop) in enumerate(tiles))


@given(piece_maps())
def test_sums_count_every_piece_that_is_on_disk(pieces: PieceMap) -> None:
    states = byte_states(pieces)
    assert pieces.stored_bytes == sum(state != ABSENT for state in states)
    assert pieces.complete == all(state != ABSENT for state in states)


@given(piece_maps(), st.sets(st.integers(0, 14)), st.integers(0, 14), st.integers(0, 16))
def test_missing_runs_are_the_absent_unclaimed_pieces_in_maximal_runs(
    pieces: PieceMap, claimed: set[int], first: int, stop: int
) -> None:
    runs = list(pieces.missing_runs(first, stop, claimed))
    wanted = [p for p in range(first, min(stop, len(pieces))) if pieces.state(p) == ABSENT and p not in claimed]
    assert [piece for begin, end in runs for piece in range(begin, end)] == wanted
    assert all(end < begin for (_, end), (begin, _) in pairwise(runs)), "runs that touch are one"


@given(piece_maps(), st.integers(0, 14), st.integers(0, 16), st.sampled_from([ABSENT, STORED, PRESENT]))
def test_pieces_are_found_by_state(pieces: PieceMap, first: int, stop: int, state: int) -> None:
    found = pieces.pieces_in_state(first, stop, state)
    assert found == [p for p in range(first, min(stop, len(pieces))) if pieces.state(p) == state]


@given(piece_maps())
def test_only_the_last_missing_piece_is_the_only_one(pieces: PieceMap) -> None:
    missing = pieces.pieces_in_state(0, len(pieces), ABSENT)
    for piece in range(len(pieces)):
        assert pieces.only_missing(piece) == (missing == [piece])


def test_a_mark_changes_one_piece_only() -> None:
    pieces = PieceMap(30, 10)
    pieces.mark(1, PRESENT)
    assert [pieces.state(piece) for piece in range(3)] == [ABSENT, PRESENT, ABSENT]


def test_an_empty_object_has_no_pieces_and_is_complete() -> None:
    pieces = PieceMap(0, 10)
    assert (len(pieces), pieces.complete, pieces.stored_bytes, pieces.covering(0, 0)) == (0, True, 0, (0, 0))


def test_states_of_another_object_are_refused() -> None:
    with pytest.raises(ValueError, match="3 states for 2 pieces"):
        PieceMap(20, 10, bytes(3))


@given(piece_maps(), st.data())
def test_a_span_is_present_when_each_of_its_bytes_is(pieces: PieceMap, data: st.DataObject) -> None:
    states = byte_states(pieces)
    if states:
        start = data.draw(st.integers(0, len(states) - 1))
        stop = data.draw(st.integers(start + 1, len(states)))
        assert pieces.present(start, stop) is all(state == PRESENT for state in states[start:stop])
        assert pieces.covering(start, stop)[0] == pieces.piece_at(start)


@given(piece_maps(), st.integers(0, 14), st.integers(0, 16))
def test_what_is_on_disk_is_counted_checked_or_not(pieces: PieceMap, first: int, stop: int) -> None:
    span = range(first, min(stop, len(pieces)))
    assert pieces.stored_count(first, stop) == sum(pieces.state(piece) != ABSENT for piece in span)


def test_a_piece_that_is_stored_and_not_checked_is_not_present() -> None:
    pieces = PieceMap(20, 10, bytes((STORED, PRESENT)))
    assert (pieces.present(0, 10), pieces.present(0, 20), pieces.present_until(0, 20)) == (False, False, 0)
    assert (pieces.stored_until(0, 20), pieces.present(10, 20)) == (20, True)


def test_a_span_of_several_pieces_behind_the_first_is_present() -> None:
    pieces = PieceMap(50, 10, bytes((ABSENT, PRESENT, PRESENT, PRESENT, STORED)))
    assert pieces.present(10, 40)
    assert pieces.present(15, 31)
    assert not any(pieces.present(start, stop) for start, stop in ((9, 40), (10, 41), (0, 50)))
