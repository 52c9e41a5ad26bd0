"""Who gets too little: one request on a line that feeds the others, and a client that is about to give up."""

from __future__ import annotations

import pytest

from cacheserver.core.turns.feed import NEED_BPS, WINDOW_S, Feed, Traffic, is_stalled


@pytest.mark.parametrize(
    ("own_bps", "others_bps", "bodies", "stalled"),
    [
        (0, 0, 1, True),
        (5000, 0, 1, False),
        (1000, 0, 1, True),
        (0, 0, 8, True),
        (1000, 7000, 8, False),
        (0, 20_000, 20, False),
        (0, 100_000, 10, True),
        (3000, 60_000, 10, False),
        (100, 60_000, 10, True),
        (1000, 2000, 3, True),
    ],
    ids=[
        "alone and silent", "alone and quick enough", "alone and slow", "a line that stands still", "a thin line",
        "none yet of a thin line", "silent beside others that are fed", "less than the others", "starved by the others",
        "a line that gives less than one needs",
    ],
)  # fmt: skip
def test_a_request_is_judged_beside_its_line(own_bps: int, others_bps: int, bodies: int, stalled: bool) -> None:
    traffic = Traffic(keep_s=30)
    traffic.bodies = bodies
    for second in range(40):
        traffic.took(own_bps + others_bps, float(second))
    assert is_stalled(own_bps * 10, traffic, since_s=30.0, now_s=40.0, min_rate_bps=4096) is stalled


def test_what_came_long_ago_is_forgotten() -> None:
    traffic = Traffic(keep_s=5)
    for second in range(1000):
        traffic.took(10, float(second))
    assert len(traffic._marks) <= 7
    assert 20 <= traffic.since(997.0) <= 50


@pytest.mark.parametrize(("rate_bps", "patient"), [(1000, False), (NEED_BPS - 200, False), (NEED_BPS + 200, True)])
def test_a_client_is_told_before_it_would_give_up(rate_bps: int, patient: bool) -> None:
    feed, offset, waited_s = Feed(0), 0, 0.0
    while waited_s < 120 and feed.patience_s >= 0.1:
        waited_s, offset = waited_s + 0.1, offset + rate_bps // 10
        feed.waited(0.1, offset)
    assert (waited_s >= 120) is patient
    assert patient or WINDOW_S - 0.5 <= waited_s <= WINDOW_S


def test_a_source_that_falls_silent_after_plenty_has_the_whole_window() -> None:
    feed = Feed(0)
    feed.waited(10.0, 10_000_000)
    assert feed.patience_s == pytest.approx(WINDOW_S)


def test_a_client_that_does_not_wait_is_never_told() -> None:
    feed = Feed(0)
    for offset in range(0, 10_000, 100):
        feed.waited(0.0, offset)
    assert feed.patience_s == WINDOW_S
