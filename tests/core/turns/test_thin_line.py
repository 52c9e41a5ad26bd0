"""Who goes on where a line is thin: a client in the middle of a file, within its share."""

from __future__ import annotations

import pytest

from cacheserver.core.turns.line import START
from cacheserver.core.turns.shares import Priority
from tests.core.turns.test_queue import PIECE, Desk


@pytest.mark.parametrize(
    ("rate_bps", "left", "taken", "next_one"),
    [
        (10e3, False, PIECE, "a"),
        (10e6, False, PIECE, "new"),
        (10e3, True, PIECE, "new"),
        (10e3, False, 0, "new"),
    ],
)
def test_on_a_thin_line_who_is_in_the_middle_of_a_file_comes_before_who_is_new(
    rate_bps: float, left: bool, taken: int, next_one: str
) -> None:
    desk = Desk(per_origin=1)
    turn = desk.ask("client a", "a")
    desk.turns.answered(turn, 0.0)
    desk.turns.origin("o").line._rates.append(rate_bps)
    desk.ask("client b", "new")
    desk.ask("client a", "other")
    desk.ask("client a", "a", Priority.READ_AHEAD, at=2 * PIECE)
    desk.ask("client a", "a", Priority.READ_AHEAD, at=PIECE)
    desk.turns.set_orphan(turn, left)
    desk.granted()
    desk.end(turn, taken)
    assert desk.granted() == [next_one]
    assert desk.turns.used == 1


def test_a_client_with_more_than_its_share_hands_no_slot_on_to_itself() -> None:
    desk = Desk(per_origin=8)
    turns = [desk.ask("client a", f"a{n}") for n in range(START)]
    for turn in turns:
        desk.turns.answered(turn, 0.0)
        desk.ask("client a", turn.object_id, at=PIECE)
    desk.turns.origin("o").line._rates.append(10e3)
    desk.ask("client b", "new")
    desk.granted()
    desk.end(turns[0])
    assert desk.granted() == ["new"]
