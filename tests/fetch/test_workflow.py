"""The decisions of a fetch by pieces and of one without metadata, as pure state machines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cacheserver.core.cache.answer import AcceptedAnswer
from cacheserver.core.cache.sources import NODE, Source
from cacheserver.core.http.validators import Validators
from cacheserver.fetch.simple import AskRest, Generation, SimpleWorkflow
from cacheserver.fetch.standing import Hopeless
from cacheserver.fetch.workflow import Ask, Complete, PieceWorkflow, Wait

CACHE = Source("http", "cache", 80, "/f?cacheHostOrigin=o", NODE)
OTHER = Source("http", "other", 80, "/f?cacheHostOrigin=o", NODE)
ORIGIN = Source("http", "o", 80, "/f")
STRONG = Validators('"v1"', None)


def asked(workflow: PieceWorkflow, now_s: float = 0.0) -> Ask:
    step = workflow.next(now_s)
    assert isinstance(step, Ask), step
    return step


def test_pieces_are_asked_once_in_order_and_skip_what_is_there() -> None:
    workflow = PieceWorkflow((ORIGIN,), 4, have={1})
    asks = [asked(workflow) for _ in range(3)]
    assert [ask.piece for ask in asks] == [0, 2, 3]
    assert workflow.next(0.0) == Wait(None)
    for ask in asks:
        workflow.good(ask, 1)
    assert workflow.next(0.0) == Complete()


def test_cache_hosts_share_the_work_and_the_origin_is_the_last_resort() -> None:
    workflow = PieceWorkflow((ORIGIN, CACHE, OTHER), 4)
    asks = [asked(workflow) for _ in range(4)]
    assert sorted(ask.source.origin for ask in asks) == ["http://cache"] * 2 + ["http://other"] * 2
    workflow.bad(asks[0])
    again = asked(workflow)
    assert again.piece == 0
    assert again.source not in (asks[0].source, ORIGIN)
    workflow.bad(again)
    assert asked(workflow).source == ORIGIN


def test_third_bad_piece_bans_and_all_banned_is_hopeless_with_reasons() -> None:
    workflow = PieceWorkflow((CACHE,), 5)
    asks = [asked(workflow) for _ in range(3)]
    assert "strike 1 of 3" in workflow.bad(asks[0])
    assert "strike 2 of 3" in workflow.bad(asks[1])
    assert isinstance(workflow.next(0.0), Ask)
    assert "banned" in workflow.bad(asks[2])
    assert isinstance(workflow.next(0.0), Wait)
    workflow.good(Ask(0, CACHE, 0.0), 1)
    assert workflow.next(0.0) == Hopeless("http://cache: 3 bad pieces")


def test_faults_that_came_together_count_once_and_rests_double() -> None:
    workflow = PieceWorkflow((CACHE,), 4)
    asks = [asked(workflow, 1.0) for _ in range(4)]
    for ask in asks:
        workflow.faulty(ask, "silent", 2.0)
    assert workflow.health[CACHE].faults == 1
    step = workflow.next(2.0)
    assert isinstance(step, Wait)
    assert step.rest_s is not None
    assert abs(step.rest_s - 0.2) < 1e-9
    workflow.faulty(asked(workflow, 2.5), "silent", 3.0)
    assert workflow.health[CACHE].rest_until_s == 3.4
    workflow.good(asked(workflow, 4.0), 1)
    assert workflow.health[CACHE].faults == 0


def test_faults_without_end_ban() -> None:
    workflow = PieceWorkflow((CACHE,), 1)
    now_s = 0.0
    for _ in range(5):
        now_s += 100.0
        workflow.faulty(asked(workflow, now_s), "silent", now_s + 1)
    assert workflow.next(now_s) == Hopeless("http://cache: silent")


@settings(max_examples=200)
@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.lists(st.sampled_from(["good", "bad", "faulty", "refused"]), max_size=80),
    st.integers(1, 5),
)
def test_every_run_ends_complete_or_hopeless_and_no_piece_is_in_flight_twice(
    pieces: int, source_count: int, outcomes: list[str], connections: int
) -> None:
    workflow = PieceWorkflow((CACHE, OTHER, ORIGIN)[:source_count], pieces)
    flights: list[Ask] = []
    now_s, script = 0.0, iter(outcomes)
    for _ in range(2000):
        step = workflow.next(now_s) if len(flights) < connections else Wait(None)
        if isinstance(step, Complete | Hopeless):
            assert not flights
            assert isinstance(step, Complete) == (len(workflow.done) == pieces)
            return
        if isinstance(step, Ask):
            assert step.piece not in {ask.piece for ask in flights} | workflow.done
            assert workflow.health[step.source].banned is None
            flights.append(step)
            continue
        assert step.rest_s is not None or flights
        now_s += 0.01 if step.rest_s is None else step.rest_s
        if flights:
            ask, outcome = flights.pop(0), next(script, "good")
            if outcome == "good":
                workflow.good(ask, 1)
            elif outcome == "bad":
                workflow.bad(ask)
            elif outcome == "faulty":
                workflow.faulty(ask, "silent", now_s)
            else:
                workflow.refused(ask, "404")
    raise AssertionError("no end")


def simple_ask(workflow: SimpleWorkflow) -> AskRest:
    step = workflow.next(0.0)
    assert isinstance(step, AskRest)
    return step


def test_simple_mode_goes_on_only_at_the_same_source_under_a_strong_validator() -> None:
    workflow = SimpleWorkflow((CACHE, ORIGIN))
    first = simple_ask(workflow)
    assert (first.source, first.start, first.generation) == (CACHE, 0, None)
    workflow.answered(first, AcceptedAnswer(0, 10, 10, STRONG), '"v1"')
    workflow.received(first, 4)
    workflow.faulty(first, "cut", slow=False, started_s=0.0, now_s=1.0)
    again = simple_ask(workflow)
    assert (again.source, again.start) == (CACHE, 4)
    assert again.generation == Generation("http://cache", 10, '"v1"', STRONG)
    workflow.refused(again, "404")
    other = simple_ask(workflow)
    assert (other.source, other.start, other.generation) == (ORIGIN, 0, None)


def test_simple_mode_begins_anew_without_a_strong_validator_or_length() -> None:
    for accepted, condition in (
        (AcceptedAnswer(0, 10, 10, Validators()), None),
        (AcceptedAnswer(0, None, None, STRONG), '"v1"'),
    ):
        workflow = SimpleWorkflow((CACHE,))
        first = simple_ask(workflow)
        workflow.answered(first, accepted, condition)
        workflow.received(first, 4)
        workflow.faulty(first, "cut", slow=False, started_s=0.0, now_s=1.0)
        assert simple_ask(workflow).start == 0
        assert workflow.have_bytes == 0


def test_simple_mode_ends_when_every_source_was_given_up() -> None:
    workflow = SimpleWorkflow((CACHE, ORIGIN))
    for _ in range(2):
        workflow.refused(simple_ask(workflow), "404")
    assert workflow.next(0.0) == Hopeless("http://cache: 404; http://o: 404")


def test_simple_mode_ends_with_a_source_that_sends_a_little_and_breaks_each_time() -> None:
    workflow = SimpleWorkflow((CACHE,))
    for at_s in range(0, 1000, 20):
        step = workflow.next(float(at_s))
        if isinstance(step, Hopeless):
            break
        workflow.answered(step, AcceptedAnswer(0, 1 << 30, 1 << 30, STRONG), None)
        workflow.received(step, 1 << 20)
        workflow.faulty(step, "cut", slow=False, started_s=at_s, now_s=at_s + 1.0)
    assert isinstance(workflow.next(1000.0), Hopeless)


def test_simple_mode_goes_on_with_a_source_that_breaks_often_but_gets_on() -> None:
    workflow = SimpleWorkflow((CACHE,))
    for at_s in range(0, 1000, 20):
        step = simple_ask(workflow)
        if step.start == 0:
            workflow.answered(step, AcceptedAnswer(0, 1 << 30, 1 << 30, STRONG), '"v1"')
        workflow.received(step, 1 << 20)
        workflow.faulty(step, "cut", slow=False, started_s=at_s, now_s=at_s + 1.0)
    assert workflow.have_bytes == 50 << 20
