"""What is fetched next: properties that every plan keeps, and a table of small ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.fetch_plan import Span, Window, plan_spans
from cacheserver.core.piece_map import ABSENT, PRESENT, PieceMap

COUNT = 20
SPAN_PIECES = st.integers(1, 6)
ROOM = st.integers(-2, 6)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """A window inside the object; a reader that waits stops at a piece that it still wants."""
    first = draw(st.integers(0, COUNT - 1))
    return Window(first, draw(st.integers(first + 1, COUNT)), draw(st.booleans()))


@st.composite
def situations(draw: st.DrawFn) -> tuple[PieceMap, set[int], list[Window]]:
    """Pieces, claims on absent ones, readers."""
    states = bytes(draw(st.lists(st.sampled_from([ABSENT, PRESENT]), min_size=COUNT, max_size=COUNT)))
    absent = [piece for piece, state in enumerate(states) if state == ABSENT]
    claimed = draw(st.sets(st.sampled_from(absent))) if absent else set()
    return PieceMap(COUNT * 10, 10, states), claimed, draw(st.lists(windows(), max_size=5))


@given(situations(), SPAN_PIECES, ROOM)
def test_every_waiting_reader_gets_its_piece_whatever_room_there_is(
    situation: tuple[PieceMap, set[int], list[Window]], span_pieces: int, room: int
) -> None:
    pieces, claimed, readers = situation
    spans = plan_spans(pieces, claimed, readers, span_pieces=span_pieces, room=room)
    planned = {piece for span in spans for piece in range(span.first, span.stop)}
    for reader in readers:
        if reader.waiting and pieces.state(reader.first) == ABSENT:
            assert reader.first in planned | claimed


@given(situations(), SPAN_PIECES, ROOM)
def test_no_piece_is_planned_twice_claimed_stored_or_unwanted(
    situation: tuple[PieceMap, set[int], list[Window]], span_pieces: int, room: int
) -> None:
    pieces, claimed, readers = situation
    spans = plan_spans(pieces, claimed, readers, span_pieces=span_pieces, room=room)
    planned = [piece for span in spans for piece in range(span.first, span.stop)]
    assert len(planned) == len(set(planned)), "I2"
    assert not claimed & set(planned), "I2"
    assert all(pieces.state(piece) == ABSENT for piece in planned)
    assert all(any(reader.first <= piece < reader.stop for reader in readers) for piece in planned)
    assert all(0 < span.stop - span.first <= span_pieces for span in spans)


@given(situations(), SPAN_PIECES, ROOM)
def test_read_ahead_stays_within_the_room(
    situation: tuple[PieceMap, set[int], list[Window]], span_pieces: int, room: int
) -> None:
    pieces, claimed, readers = situation
    spans = plan_spans(pieces, claimed, readers, span_pieces=span_pieces, room=room)
    demanded = sum(span.demanded for span in spans)
    assert demanded <= sum(reader.waiting for reader in readers)
    assert len(spans) <= max(room, demanded)
    assert [span.demanded for span in spans] == sorted((span.demanded for span in spans), reverse=True)
    ahead = [span.first for span in spans if not span.demanded]
    assert ahead == sorted(ahead), "in the order of the object, whatever the order of the readers"


@given(situations(), SPAN_PIECES)
def test_with_room_enough_everything_that_is_wanted_and_missing_is_planned(
    situation: tuple[PieceMap, set[int], list[Window]], span_pieces: int
) -> None:
    pieces, claimed, readers = situation
    spans = plan_spans(pieces, claimed, readers, span_pieces=span_pieces, room=1000)
    wanted = {piece for reader in readers for piece in range(reader.first, reader.stop)}
    missing = {piece for piece in wanted if pieces.state(piece) == ABSENT} - claimed
    assert {piece for span in spans for piece in range(span.first, span.stop)} == missing


@pytest.mark.parametrize(
    ("states", "claimed", "readers", "room", "expected"),
    [
        ("......", (), [], 4, []),
        ("......", (), [Window(0, 6, True)], 4, [Span(0, 2, True), Span(2, 4, False), Span(4, 6, False)]),
        ("......", (), [Window(0, 6, True)], 0, [Span(0, 2, True)]),
        ("......", (), [Window(0, 6, False)], 1, [Span(0, 2, False)]),
        (".#....", (), [Window(0, 4, True)], 4, [Span(0, 1, True), Span(2, 4, False)]),
        ("......", (0,), [Window(0, 3, True)], 4, [Span(1, 3, False)]),
        ("......", (), [Window(4, 6, True), Window(0, 2, True)], 1, [Span(4, 6, True), Span(0, 2, True)]),
        ("######", (), [Window(0, 6, True)], 4, []),
    ],
)
def test_small_plans(
    states: str, claimed: tuple[int, ...], readers: list[Window], room: int, expected: list[Span]
) -> None:
    pieces = PieceMap(60, 10, bytes(PRESENT if mark == "#" else ABSENT for mark in states))
    assert plan_spans(pieces, set(claimed), readers, span_pieces=2, room=room) == expected
