"""A tally loses nothing, counts nothing twice, and keeps every label in its closed set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.request.client import LISTENERS, Client
from cacheserver.core.request.subnets import MAX_SUBNETS
from cacheserver.metrics.tally import GROUPS_LIMIT, OTHER, OUTCOMES, Tally
from tests.support.answers import answer

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


@given(st.lists(ANSWERS, max_size=40))
def test_every_answer_is_in_one_cell_and_in_one_bucket_of_each_time(
    answers: list[tuple[str, str, int, int, float, Client, float | None]],
) -> None:
    one = tally()
    for each in answers:
        one.add(answer(*each))
    cells = one.cells()
    assert sum(cell.count for _, cell in cells) == len(answers)
    assert sum(cell.body_bytes for _, cell in cells) == one.body_bytes() == sum(each[3] for each in answers)
    groups = one.groups()
    assert sum(sums.count for _, sums in groups) == len(answers)
    assert sum(sums.body_bytes for _, sums in groups) == one.body_bytes()
    for (subnet, outcome), _ in groups:
        assert subnet in (*SUBNETS, OTHER)
        assert outcome in (*OUTCOMES, OTHER)
    for (service, outcome, status_class, listener), _ in cells:
        assert service in (*SERVICES, OTHER)
        assert outcome in (*OUTCOMES, OTHER)
        assert 0 <= status_class <= 5
        assert listener in LISTENERS
    times = [each for _, each in one.times()]
    at_once, later = ([each for each in answers if (each[6] is None) == whole] for whole in (True, False))
    assert sum(sum(each.at_once.buckets) for each in times) == len(at_once)
    assert sum(sum(each.total.buckets) for each in times) == len(later)
    assert sum(sum(each.first_byte.buckets) for each in times) == len(later)
    assert sum(each.at_once.sum_s for each in times) == sum(each[4] for each in at_once)
    assert sum(each.total.sum_s for each in times) == sum(each[4] for each in later)


@given(st.lists(EVENTS, max_size=40))
def test_every_event_is_added_to_its_own_number(events: list[tuple[tuple[str, ...], int]]) -> None:
    one = tally()
    for key, amount in events:
        one.count(key, amount)
    assert dict(one.counts()) == {key: sum(amount for name, amount in events if name == key) for key, _ in events}


def test_the_hit_ratio_leaves_refused_requests_out() -> None:
    one = tally()
    assert one.hit_ratio_requests() == 0
    for outcome in ("hit", "revalidated", "miss", "miss", "refused"):
        one.add(answer("wu", outcome, 200, 5))
    assert one.hit_ratio_requests() == 0.5


def test_an_answer_of_several_turns_has_two_times_and_one_of_one_turn_one() -> None:
    one = tally()
    one.add(answer("wu", "hit", 206, 5, 0.1))
    one.add(answer("wu", "hit", 206, 5, 3.0, first_byte_s=0.5))
    ((outcome, times),) = one.times()
    assert outcome == "hit"
    assert (times.at_once.buckets, times.total.buckets) == ([1, 0, 0, 0], [0, 0, 1, 0])
    assert times.first_byte.buckets == [0, 1, 0, 0]


def test_more_subnets_than_are_kept_apart_cost_no_more_series_and_lose_no_answer() -> None:
    one = tally()
    names = [f"site-{number}" for number in range(MAX_SUBNETS)]
    one.allow_subnets(names)
    for outcome in OUTCOMES:
        for name in names:
            one.add(answer("wu", outcome, 200, 1, 0.1, Client(subnet=name)))
    groups = dict(one.groups())
    assert GROUPS_LIMIT <= len(groups) <= GROUPS_LIMIT + len(OUTCOMES)
    assert {(name, outcome) for name in names for outcome in OUTCOMES[:4]} <= groups.keys()
    assert sum(sums.count for sums in groups.values()) == len(names) * len(OUTCOMES)
    assert len(one.cells()) == len(OUTCOMES), "services and subnets do not multiply"


def test_bytes_that_were_booked_under_way_count_once_whatever_the_answer_has_come_to() -> None:
    one = tally()
    one.book(answer("wu", "hit", 206, 300))
    one.book(answer("wu", "hit", 206, 500, booked_bytes=300))
    assert (one.body_bytes(), one.hit_ratio_requests()) == (500, 0)
    one.add(answer("wu", "partial", 206, 800, booked_bytes=500))
    sent = {key[1]: (cell.count, cell.body_bytes) for key, cell in one.cells()}
    assert sent == {"hit": (0, 500), "partial": (1, 300)}
    assert sum(group.body_bytes for _, group in one.groups()) == 800
