"""Tallies add up: what several have counted and handed over is what one that saw everything has."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.client import Client
from cacheserver.core.tally import Tally

BOUNDS_S = (0.25, 1.0, 4.0)
SERVICES = ("wu", "do")
SUBNETS = ("north", "south")
CLIENTS = st.builds(
    Client,
    address=st.just("192.0.2.1"),
    listener=st.sampled_from(("plain", "tls", "strange")),
    subnet=st.sampled_from((*SUBNETS, "other", "strange")),
)
DURATIONS = st.integers(0, 80).map(lambda eighths: eighths / 8)  # sums of these are exact
ANSWERS = st.tuples(
    st.sampled_from((*SERVICES, "strange")),
    st.sampled_from(("hit", "miss", "refused", "strange")),
    st.integers(0, 700),
    st.integers(0, 2**40),
    DURATIONS,
    CLIENTS,
    st.none() | DURATIONS,
)
EVENTS = st.tuples(st.sampled_from((("a",), ("a", "x"), ("b",))), st.integers(0, 9))


def tally() -> Tally:
    made = Tally(bounds_s=BOUNDS_S, services_limit=8)
    made.allow_services(SERVICES)
    made.allow_subnets(SUBNETS)
    return made


def content(of: Tally) -> object:
    cells = {key: (cell.count, cell.body_bytes) for key, cell in of.cells()}
    times = {
        outcome: [(part.buckets, part.sum_s) for part in (t.at_once, t.total, t.first_byte)]
        for outcome, t in of.times()
    }
    return cells, times, dict(of.counts())


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), ANSWERS | EVENTS), max_size=40),
    st.booleans(),
)
def test_takes_of_several_tallies_add_up_to_one_that_saw_all(
    steps: list[tuple[int, bool, tuple[object, ...]]], narrow: bool
) -> None:
    """A worker that knows fewer names than the node counts them as other; so does the one that saw all then."""
    workers, whole, node = [tally() for _ in range(3)], tally(), tally()
    if narrow:
        for one in (*workers, whole):
            one.allow_subnets(SUBNETS[:1])
    for which, handed_over, step in steps:
        for counter in (workers[which], whole):
            if len(step) == 2:
                counter.count(*step)  # type: ignore[arg-type]
            else:
                counter.add(*step)  # type: ignore[arg-type]
        if handed_over:
            node.absorb(workers[which].take())
    for worker in workers:
        node.absorb(worker.take())
        assert (worker.cells(), worker.times(), worker.counts()) == ([], [], [])
    assert content(node) == content(whole)
    assert (node.body_bytes(), node.hit_ratio_requests()) == (whole.body_bytes(), whole.hit_ratio_requests())


def test_counting_goes_on_after_a_take() -> None:
    worker, node = tally(), tally()
    for _ in range(2):
        worker.add("wu", "hit", 206, 5, 0.1, Client(), None)
        node.absorb(worker.take())
    ((key, cell),) = node.cells()
    assert (key, cell.count, cell.body_bytes) == (("wu", "hit", 2, "plain", "other"), 2, 10)


def test_an_answer_of_several_turns_has_two_times_and_one_of_one_turn_one() -> None:
    one = tally()
    one.add("wu", "hit", 206, 5, 0.1, Client())
    one.add("wu", "hit", 206, 5, 3.0, Client(), 0.5)
    ((outcome, times),) = one.times()
    assert outcome == "hit"
    assert (times.at_once.buckets, times.total.buckets) == ([1, 0, 0, 0], [0, 0, 1, 0])
    assert times.first_byte.buckets == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 9,
        msgspec.msgpack.encode([[], []]),
        msgspec.msgpack.encode([[["wu", "hit", 2, "plain", "other", 1]], [], []]),
        msgspec.msgpack.encode([[["wu", "hit", 2, "plain", "other", 1, 1]], [["hit", [[[1], 0.5]] * 3]], []]),
        msgspec.msgpack.encode([[["wu", "hit", 2, "plain", "other", 1, 1]], [["hit", []]], []]),
    ],
)
def test_what_no_tally_gave_is_refused_and_changes_nothing(data: bytes) -> None:
    node = tally()
    with pytest.raises(ValueError):
        node.absorb(data)
    assert (node.cells(), node.times(), node.counts()) == ([], [], [])
