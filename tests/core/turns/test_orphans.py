"""Requests that run on though nobody waits for them: what their client gets meanwhile."""

from __future__ import annotations

from cacheserver.core.turns.shares import State
from tests.core.turns.test_queue import Desk, held


def test_a_client_whose_requests_nobody_waits_for_gets_none_before_they_end() -> None:
    desk = Desk(per_origin=16)
    desk.answering("o")
    left = [desk.ask("gone", f"x{n}") for n in range(3)]
    for turn in left:
        desk.turns.set_orphan(turn, True)
    waiting = desk.ask("gone", "y")
    assert not held([waiting])
    assert desk.ask("other", "z").state is State.HELD
    desk.end(left[0])
    assert waiting.state is State.HELD


def test_a_client_that_leaves_what_it_asked_for_gets_one_further_request_at_a_time() -> None:
    desk = Desk(per_origin=16)
    desk.answering("o")
    left = desk.ask("gone", "x")
    desk.turns.set_orphan(left, True)
    more = [desk.ask("gone", f"y{n}") for n in range(6)]
    assert held(more) == 1
    desk.turns.set_orphan(more[0], True)
    assert held(more) == 2
    desk.turns.set_orphan(more[1], True)
    assert held(more) == 2, "three run on for nobody"
    desk.end(left)
    assert held(more) == 3
    for turn in more[:2]:
        desk.turns.set_orphan(turn, False)
    assert held(more) == 6
