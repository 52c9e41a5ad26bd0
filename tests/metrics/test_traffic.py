"""Sums over a tally."""

from __future__ import annotations

from cacheserver.core.request.client import Client
from cacheserver.metrics.tally import Tally
from cacheserver.metrics.traffic import traffic
from tests.support.answers import answer


def test_sums_are_by_outcome_service_and_subnet_and_largest_first() -> None:
    tally = Tally()
    tally.allow_services(["wu", "edge"])
    tally.allow_subnets(["north"])
    tally.add(answer("wu", "hit", 200, 100, 0.1, Client(subnet="north")))
    tally.add(answer("wu", "miss", 206, 50, 0.1, Client()))
    tally.add(answer("edge", "hit", 200, 900, 0.1, Client()))
    tally.count(("upstream_bytes_total", "wu", "origin"), 30)
    tally.count(("upstream_bytes_total", "wu", "parent"), 20)
    tally.count(("upstream_requests_total", "wu", "origin", "ok"), 7)
    assert traffic(tally) == {
        "requests": 3,
        "response_bytes": 1050,
        "served_bytes": 1050,
        "upstream_bytes": 50,
        "outcomes": [
            {"name": "hit", "requests": 2, "response_bytes": 1000},
            {"name": "miss", "requests": 1, "response_bytes": 50},
        ],
        "services": [
            {"name": "edge", "requests": 1, "response_bytes": 900, "served_bytes": 900, "upstream_bytes": 0},
            {"name": "wu", "requests": 2, "response_bytes": 150, "served_bytes": 150, "upstream_bytes": 50},
        ],
        "subnets": [
            {"name": "other", "requests": 2, "response_bytes": 950},
            {"name": "north", "requests": 1, "response_bytes": 100},
        ],
    }


def test_a_service_that_was_only_fetched_for_is_there() -> None:
    tally = Tally()
    tally.count(("upstream_bytes_total", "other", "origin"), 5)
    row = {"name": "other", "requests": 0, "response_bytes": 0, "served_bytes": 0, "upstream_bytes": 5}
    assert traffic(tally)["services"] == [row]


def test_nothing_is_zero_and_empty() -> None:
    sums = traffic(Tally())
    assert (sums["requests"], sums["response_bytes"], sums["upstream_bytes"]) == (0, 0, 0)
    assert sums["services"] == sums["subnets"] == sums["outcomes"] == []


def test_refusals_and_errors_are_sent_and_save_nothing() -> None:
    tally = Tally()
    tally.allow_services(["wu"])
    tally.add(answer("none", "refused", 403, 80))
    tally.add(answer("wu", "error", 502, 60))
    tally.add(answer("wu", "hit", 200, 1000))
    sums = traffic(tally)
    assert (sums["response_bytes"], sums["served_bytes"]) == (1140, 1000)
    assert {row["name"]: row["served_bytes"] for row in sums["services"]} == {"wu": 1000, "other": 0}
