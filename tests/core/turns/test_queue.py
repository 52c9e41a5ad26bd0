"""Whose request comes next: limits, nobody starves, no slot stays empty, who is silent or gone keeps nobody out."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.turns.line import START
from cacheserver.core.turns.origin import Limits
from cacheserver.core.turns.queue import Turns
from cacheserver.core.turns.shares import Priority, State, Turn

PIECE = 1 << 20
WIDE = Limits(per_origin=64, total=256, piece_bytes=PIECE)


class Desk:
    """Turns by name, and the order in which they are granted."""

    def __init__(self, per_origin: int = 4, total: int = 100, weight: int = 1) -> None:
        limits = Limits(per_origin=per_origin, total=total, piece_bytes=PIECE)
        self.turns = Turns(limits, weight=lambda client: weight if client == "site" else 1)
        self.turns.site.room = 10_000
        self.now_s = 0.0

    def ask(
        self,
        client: str,
        object_id: str,
        priority: Priority = Priority.DEMANDED,
        *,
        origin: str = "o",
        at: int = 0,
        cost_bytes: int = PIECE,
    ) -> Turn:
        turn = Turn(origin, object_id, at=at, cost_bytes=cost_bytes)
        self.turns.ask(turn, client, priority, self.now_s)
        return turn

    def end(self, turn: Turn, taken_bytes: int = PIECE) -> None:
        turn.taken_bytes = taken_bytes
        self.turns.end(turn, self.now_s)

    def granted(self) -> list[str]:
        """Objects of what was granted since, in order."""
        given, self.turns.granted = self.turns.granted, []
        return [turn.object_id for turn in given]

    def answering(self, *origins: str) -> None:
        """Have origins that answer, and whose lines are wide."""
        for name in origins:
            self.turns.origin(name).proven = True
            self.turns.origin(name).line.room = 10_000


def held(turns: list[Turn]) -> int:
    return sum(turn.state is State.HELD for turn in turns)


# -- limits ---------------------------------------------------------------------------------------------------------


def test_no_more_than_the_limits_are_under_way_and_each_end_lets_one_in() -> None:
    desk = Desk(per_origin=4, total=6)
    desk.answering("a", "b")
    turns = [desk.ask(f"client {n}", f"{origin}{n}", origin=origin) for n in range(6) for origin in "ab"]
    assert held(turns) == 6
    assert desk.turns.origin("a").used <= 4
    desk.end(next(turn for turn in turns if turn.state is State.HELD))
    assert held(turns) == 6


def test_one_client_alone_has_three_quarters_and_leaves_room_for_the_next() -> None:
    desk = Desk(per_origin=8)
    desk.answering("o")
    turns = [desk.ask("greedy", f"x{n}") for n in range(20)]
    assert held(turns) == 6
    assert desk.ask("other", "y").state is State.HELD


def test_a_client_at_its_share_gets_no_more_while_others_come() -> None:
    desk = Desk(per_origin=8)
    desk.answering("o")
    greedy = [desk.ask("greedy", f"x{n}") for n in range(20)]
    others = [desk.ask(f"client {n}", f"y{n}") for n in range(2)]
    desk.end(greedy[0])
    desk.end(greedy[1])
    assert held(greedy) == 4, "eight slots, three clients: not above a third rounded up by what it held"
    more = [desk.ask(f"late {n}", f"z{n}") for n in range(2)]
    assert held(others) == held(more) == 2


def test_a_network_that_counts_as_many_clients_has_as_many_shares() -> None:
    desk = Desk(per_origin=8, weight=3)
    desk.answering("o")
    site = [desk.ask("site", f"x{n}") for n in range(20)]
    assert held(site) == 8


def test_one_client_at_many_origins_leaves_a_quarter_of_the_total() -> None:
    desk = Desk(per_origin=100, total=8)
    desk.answering(*(f"o{n}" for n in range(20)))
    greedy = [desk.ask("greedy", f"x{n}", origin=f"o{n}") for n in range(20)]
    assert held(greedy) == 6
    assert desk.ask("other", "y", origin="o19").state is State.HELD
    for _ in range(20):
        for turn in greedy:
            if turn.state is State.HELD:
                desk.end(turn)
    assert all(turn.state is State.ENDED for turn in greedy), "parked turns come up again"


def test_all_origins_share_one_line_and_each_may_have_a_few() -> None:
    desk = Desk(per_origin=100, total=100)
    desk.answering("a", "b")
    desk.turns.site.room = 10
    first = [desk.ask(f"client {n}", f"x{n}", origin="a") for n in range(20)]
    second = [desk.ask(f"client {n}", f"y{n}", origin="b") for n in range(20)]
    assert (held(first), held(second)) == (10, 2)
    desk.turns.site.room, desk.now_s = 20, 100.0
    desk.end(first[0])
    assert held(first) + held(second) == 20, "what is learnt of the common line counts for all"


# -- order ----------------------------------------------------------------------------------------------------------


def test_the_most_urgent_comes_first_then_the_first_bytes() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    running = desk.ask("a", "running")
    desk.ask("a", "background", Priority.BACKGROUND)
    desk.ask("a", "ahead", Priority.READ_AHEAD)
    last = desk.ask("a", "x", at=2 * PIECE)
    first = desk.ask("a", "x")
    desk.granted()
    order = []
    for turn in (running, first, last):
        desk.end(turn)
        order += desk.granted()
    assert first.state is last.state is State.ENDED
    assert order[:2] == ["x", "x"]
    assert order[2:] == ["ahead"]


def test_small_objects_do_not_wait_behind_a_large_one() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    running = desk.ask("a", "large")
    rest = [desk.ask("a", "large", at=n * PIECE) for n in range(1, 50)]
    small = desk.ask("a", "small")
    desk.end(running)
    assert small.state is State.HELD
    assert held(rest) == 0


@given(st.integers(2, 6), st.integers(1, 30), st.integers(1, 8))
def test_clients_that_want_much_get_the_same_within_one_request(clients: int, wanted: int, most: int) -> None:
    """However many objects one of them asks for at once."""
    desk = Desk(per_origin=1)
    desk.answering("o")
    waiting = [
        desk.ask(f"c{client}", f"{client}-{n % (1 + client * most)}", at=n)
        for client in range(clients)
        for n in range(wanted)
    ]
    got = [0] * clients
    while held(waiting):
        turn = next(turn for turn in waiting if turn.state is State.HELD)
        got[int(turn.object_id[0])] += 1
        desk.end(turn)
        assert max(got) - min(got) <= 2
    assert got == [wanted] * clients


def test_who_took_less_than_it_asked_for_is_charged_for_what_it_took() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    turns = [desk.ask(client, f"{client}{n}") for n in range(60) for client in ("large", "small")]
    got = {"large": 0, "small": 0}
    for _ in range(51):
        turn = next(turn for turn in turns if turn.state is State.HELD)
        small = turn.object_id.startswith("small")
        got["small" if small else "large"] += 1
        desk.end(turn, taken_bytes=PIECE // 4 if small else PIECE)
    assert 3 <= got["small"] / got["large"] <= 5


def test_who_joins_a_waiting_request_brings_its_own_turn_forward() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    running = desk.ask("greedy", "x")
    many = [desk.ask("greedy", f"y{n}") for n in range(50)]
    desk.turns.join(many[-1], "victim", Priority.DEMANDED)
    desk.end(running)
    desk.end(next(turn for turn in many if turn.state is State.HELD))
    assert State.WAITING is not many[-1].state
    assert desk.turns.origin("o").waiting[0] == 49 - sum(turn.state is not State.WAITING for turn in many[:-1])


def test_what_is_read_ahead_becomes_urgent_when_a_client_waits_for_it() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    running = desk.ask("a", "x")
    later = desk.ask("a", "y", Priority.READ_AHEAD)
    other = desk.ask("b", "z")
    desk.turns.join(later, "c", Priority.DEMANDED)
    for turn in (running, other):
        desk.end(turn)
    assert later.state is State.HELD


# -- silence, clients that left, clients that take nothing ------------------------------------------------------------


def test_silent_requests_keep_nobody_out() -> None:
    desk = Desk(per_origin=8, total=100)
    silent = [desk.ask("a", f"x{n}") for n in range(6)]
    for turn in silent:
        desk.turns.silent(turn, 0.0)
    assert all(desk.ask("a", f"y{n}").state is State.HELD for n in range(6)), "of the same client too"


def test_silence_has_an_end_too() -> None:
    desk = Desk(per_origin=8, total=1000)
    for n in range(100):
        turn = desk.ask(f"client {n}", f"x{n}")
        if turn.state is State.HELD:
            desk.turns.silent(turn, 0.0)
    assert desk.turns.used == 8 + START, "eight that are silent, and as many as are sent to an unknown line"


def test_origins_that_do_not_answer_leave_a_quarter_of_the_total() -> None:
    desk = Desk(per_origin=8, total=16)
    desk.answering("good")
    lost = [desk.ask(f"client {n}", f"x{n}", origin=f"lost {n % 40}") for n in range(200)]
    for _ in range(5):
        for turn in lost:
            if turn.state is State.HELD and not turn.quiet:
                desk.turns.silent(turn, 0.0)
    assert held(lost) == 12
    good = [desk.ask(f"client {n}", f"y{n}", origin="good") for n in range(4)]
    assert held(good) == 4
    desk.turns.answered(next(turn for turn in lost if turn.state is State.HELD), 0.0)
    assert held(lost) > 12, "one that answers again is no such origin"


def test_a_turn_that_nobody_wants_any_more_is_passed_over() -> None:
    desk = Desk(per_origin=1)
    desk.answering("o")
    running, gone, next_one = (desk.ask("a", name) for name in ("x", "y", "z"))
    desk.end(gone)
    desk.end(running)
    assert next_one.state is State.HELD
    assert gone.state is State.ENDED


def test_background_waits_until_no_client_does() -> None:
    desk = Desk(per_origin=2)
    desk.answering("o")
    first, second, third = (desk.ask(name, name) for name in "abc")
    background = desk.ask("", "d", Priority.BACKGROUND)
    desk.end(first)
    assert third.state is State.HELD
    assert not held([background])
    desk.end(second)
    assert not held([background]), "one request fills a line that was not measured"
    desk.end(third)
    assert background.state is State.HELD


# -- everything at once -----------------------------------------------------------------------------------------------

NAMES = st.integers(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), NAMES, NAMES, st.integers(0, 5), st.sampled_from(Priority)),
        st.tuples(st.just("join"), st.integers(0, 60), NAMES, st.sampled_from(Priority)),
        st.tuples(st.sampled_from(("end", "silent", "answered", "orphan", "wanted", "busy")), st.integers(0, 60)),
    ),
    max_size=80,
)


@given(STEPS, st.integers(1, 5), st.integers(1, 8))
def test_no_slot_stays_empty_for_which_somebody_waits_and_all_are_served(
    steps: list[tuple[object, ...]], per_origin: int, total: int
) -> None:
    desk = Desk(per_origin=per_origin, total=total)
    turns: list[Turn] = []
    for step in steps:
        _take(desk, turns, step)
        _check(desk, turns)
    for _ in range(len(turns) + 1):
        for turn in turns:
            if turn.state is State.HELD:
                desk.end(turn)
                _check(desk, turns)
    assert all(turn.state is State.ENDED for turn in turns), "nobody starves"
    queue = desk.turns
    assert (queue.used, queue._quiet, queue._unproven_used) == (0, 0, 0)
    for origin in queue.origins.values():
        assert (origin.used, origin.quiet, origin.busy, origin.waiting) == (0, 0, 0, [0, 0, 0])
        assert not any(flow.orphans or flow.used or flow.quiet for flow in origin.flows.values())


def _take(desk: Desk, turns: list[Turn], step: tuple[object, ...]) -> None:
    match step:
        case ("ask", int(client), int(origin), int(object_id), Priority() as priority):
            name = f"{origin}/{object_id}"
            turns.append(desk.ask(f"c{client}", name, priority, origin=f"o{origin}", at=len(turns)))
        case ("join", int(number), int(client), Priority() as priority) if number < len(turns):
            desk.turns.join(turns[number], f"c{client}", priority)
        case (str(act), int(number)) if number < len(turns):
            turn = turns[number]
            if act == "end":
                desk.end(turn)
            elif act in ("orphan", "wanted"):
                desk.turns.set_orphan(turn, act == "orphan")
            elif turn.state is State.HELD:
                acts = {"silent": desk.turns.silent, "answered": desk.turns.answered}
                acts.get(act, lambda held, now_s: desk.turns.set_quiet(held, True, now_s))(turn, 0.0)


def _check(desk: Desk, turns: list[Turn]) -> None:
    queue = desk.turns
    assert queue.used == held(turns)
    assert queue._quiet == sum(turn.quiet for turn in turns if turn.state is State.HELD)
    for origin in queue.origins.values():
        assert origin.active <= queue.limits.per_origin + origin.used - origin.quiet
        assert origin.busy == sum(bool(flow.used or flow.waits) for flow in origin.flows.values())
    if queue.used - min(queue._quiet, queue.limits.total) >= queue.limits.total:
        return
    for turn in turns:
        for flow, priority in turn.places:
            origin = queue.origins[flow.origin]
            assert not (
                origin.admits(priority)
                and queue._total_admits(origin)
                and queue._client_admits(flow.client)
                and queue._flow_admits(origin, flow)
            ), "a slot is free for this one"


def test_twenty_thousand_that_wait_cost_no_more_each_than_a_few() -> None:
    def seconds(number: int) -> float:
        turns, queued = Turns(WIDE), []
        turns.origin("o").proven = True
        turns.site.room = 10_000
        began = time.process_time()
        for n in range(number):
            queued.append(Turn("o", f"x{n}"))
            turns.ask(queued[-1], f"client {n % 50}", Priority.DEMANDED, 0.0)
        for turn in queued:
            turns.end(turn, 100.0)
        return (time.process_time() - began) / number

    few, many = min(seconds(1000) for _ in range(3)), seconds(20_000)
    assert many < 5 * few


def test_what_is_remembered_of_a_client_has_a_bound_however_many_objects_it_asks_for() -> None:
    turns = Turns(Limits(4, 4))
    heavy = Turn("o", "heavy", cost_bytes=1 << 30)
    turns.ask(heavy, "a", Priority.DEMANDED, 0.0)
    for number in range(5000):
        turn = Turn("o", f"object {number}")
        turns.ask(turn, "a", Priority.DEMANDED, 0.0)
        turns.end(turn, 0.0)
    flow = turns.origin("o").flows["a"]
    assert len(flow.objects) <= 512
    assert "heavy" in flow.objects, "what has had most waits longest"
