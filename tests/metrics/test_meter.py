"""Metrics: the table is the exposition, and label sets stay closed."""

from __future__ import annotations

import re
import threading

import pytest

from cacheserver.core.request.client import Client
from cacheserver.metrics.collectors import VolumeGauges
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.metrics.table import METRICS
from cacheserver.metrics.tally import OUTCOMES, SERVICES_LIMIT
from cacheserver.ports import Meter
from tests.support.answers import answer

CLIENT = Client()
BRANCH = Client("10.0.0.1", "plain", "branch")
SAMPLE = re.compile(r"([a-z_:]+)(?:\{(.*)\})? (\S+)\Z")


def exposition(meter: PrometheusMeter) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples of the text format by name and labels."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for line in meter.render(None)[0].decode().splitlines():
        if not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match is not None, line
            labels = frozenset(re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""))
            samples[match.group(1), labels] = float(match.group(3))
    return samples


def value(meter: PrometheusMeter, name: str, **labels: str) -> float | None:
    return exposition(meter).get((f"cacheserver_{name}", frozenset(labels.items())))


def exercised() -> PrometheusMeter:
    """A meter on which everything has happened once."""
    meter = PrometheusMeter(services=["wu"], subnets=["branch"])
    typed: Meter = meter
    typed.answered(answer("wu", "hit", 206, 1000, 0.003, BRANCH))
    typed.refused("host_not_allowed")
    typed.connection_refused("client")
    typed.upstream_request("wu", "origin", "ok")
    typed.upstream_bytes("wu", "origin", 250)
    typed.fill_started()
    typed.collapsed()
    typed.verified("at_rest", "ok")
    typed.evicted("/a", "space", 4096)
    typed.content_refused("not_anchored")
    typed.manifest("absent")
    typed.struck(banned=True)
    meter.anchor("name", "claim")
    meter.set_store_source(lambda: [VolumeGauges("/a", 1, 2, 3, True)])
    meter.set_state_source("connections", lambda: 7)
    meter.certificate("node.pem", 2e9)
    meter.set_memory_source(lambda: [(("collected",), 5.0)])
    return meter


def test_table_equals_exposition() -> None:
    meter = exercised()
    body = meter.render(None)[0].decode()
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", body))
    assert kinds == {doc.name: doc.type for doc in METRICS}
    helps = dict(re.findall(r"(?m)^# HELP (\S+) (.*)$", body))
    assert helps == {doc.name: doc.meaning for doc in METRICS}
    seen: dict[str, set[str]] = {}
    for name, labels in exposition(meter):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        seen.setdefault(base, set()).update(label for label, _ in labels if label != "le")
    assert seen == {doc.name: set(doc.labels) for doc in METRICS}


def test_rows_that_alerts_look_at_are_there_from_the_start() -> None:
    names = {name for name, _ in exposition(PrometheusMeter())}
    assert {"cacheserver_connections_refused_total", "cacheserver_source_bans_total"} <= names
    assert value(PrometheusMeter(), "verified_pieces_total", level="at_rest", result="bad") == 0


def test_no_created_series() -> None:
    for accept in (None, "application/openmetrics-text"):
        assert b"_created" not in exercised().render(accept)[0]


def test_each_call_counts_under_its_labels() -> None:
    meter = exercised()
    assert value(meter, "requests_total", service="wu", outcome="hit", code="2xx", listener="plain") == 1
    assert value(meter, "response_bytes_total", service="wu", outcome="hit", listener="plain") == 1000
    assert value(meter, "request_duration_seconds_count", outcome="hit") == 1
    assert value(meter, "refused_total", reason="host_not_allowed") == 1
    assert value(meter, "upstream_requests_total", service="wu", source="origin", result="ok") == 1
    assert value(meter, "upstream_bytes_total", service="wu", source="origin") == 250
    assert value(meter, "fills_in_flight") == 1
    assert value(meter, "collapsed_waiters_total") == 1
    assert value(meter, "verified_pieces_total", level="at_rest", result="ok") == 1
    assert value(meter, "content_refused_total", reason="not_anchored") == 1
    assert meter.content_refusals() == {"not_anchored": 1}
    assert value(meter, "evictions_total", volume="/a", reason="space") == 1
    assert value(meter, "evicted_bytes_total", volume="/a", reason="space") == 4096
    assert value(meter, "store_capacity_bytes", volume="/a") == 2
    assert value(meter, "store_online", volume="/a") == 1
    assert value(meter, "connections") == 7
    assert value(meter, "connections_refused_total", limit="client") == 1
    assert value(meter, "subnet_requests_total", subnet="branch", outcome="hit") == 1
    assert value(meter, "subnet_response_bytes_total", subnet="branch", outcome="hit") == 1000
    meter.fill_ended()
    assert value(meter, "fills_in_flight") == 0


def test_durations_are_cumulative_buckets() -> None:
    meter = PrometheusMeter(services=["wu"])
    for duration_s in (0.002, 0.0021, 1000.0):
        meter.answered(answer("wu", "miss", 200, 1, duration_s, CLIENT))
    buckets = {
        dict(labels)["le"]: count
        for (name, labels), count in exposition(meter).items()
        if name == "cacheserver_request_duration_seconds_bucket"
    }
    assert (buckets["0.0005"], buckets["0.002"], buckets["0.01"], buckets["300.0"], buckets["+Inf"]) == (0, 1, 2, 2, 3)
    assert value(meter, "request_duration_seconds_count", outcome="miss") == 3
    assert value(meter, "request_duration_seconds_sum", outcome="miss") == pytest.approx(1000.0041)


def test_hit_ratios_count_what_did_not_cross_the_wan() -> None:
    meter = PrometheusMeter(services=["wu"])
    assert value(meter, "hit_ratio_requests") == value(meter, "hit_ratio_bytes") == 0
    for outcome in ("hit", "stale", "miss", "pass", "refused"):
        meter.answered(answer("wu", outcome, 200, 100, 0.1, CLIENT))
    meter.upstream_bytes("wu", "origin", 200)
    assert value(meter, "hit_ratio_requests") == 0.5
    assert value(meter, "hit_ratio_bytes") == pytest.approx(0.6)
    meter.upstream_bytes("wu", "origin", 10_000)
    assert value(meter, "hit_ratio_bytes") == 0


def test_strangers_labels_never_make_series() -> None:
    meter = PrometheusMeter(services=["wu"])
    for number in range(500):
        word = f'client-{number}"\n'
        meter.answered(answer(word, word, number * 10, 1, 0.1, CLIENT))
        meter.refused(word)
        meter.upstream_request(word, word, word)
        meter.upstream_bytes(word, word, 1)
        meter.verified(word, word)
        meter.content_refused(word)
        meter.evicted("/a", word, 1)
    assert b"client-" not in meter.render(None)[0]
    assert value(meter, "requests_total", service="other", outcome="other", code="2xx", listener="plain") == 10
    assert len(meter.tally.counts()) < 10
    assert len(exposition(meter)) < 90


def test_series_stay_in_the_hundreds_with_more_services_than_the_limit() -> None:
    names = [f"s{number}" for number in range(100)]
    meter = PrometheusMeter(services=names[:10])
    meter.tally.allow_services(names)
    for name in names:
        for outcome in OUTCOMES[:3]:
            meter.answered(answer(name, outcome, 206, 1, 0.1, CLIENT))
    shown = {dict(labels).get("service") for metric, labels in exposition(meter) if "_requests_" in metric}
    assert shown - {None} == {*names[:SERVICES_LIMIT], "other"}


def test_zero_and_negative_bytes_do_not_raise() -> None:
    meter = PrometheusMeter(services=["wu"])
    meter.answered(answer("wu", "hit", 304, 0, 0.0, CLIENT))
    meter.answered(answer("wu", "hit", 304, -1, 0.0, CLIENT))
    meter.upstream_bytes("wu", "origin", -1)
    meter.evicted("/a", "space", -1)
    assert value(meter, "response_bytes_total", service="wu", outcome="hit", listener="plain") == 0


def test_store_that_fails_does_not_take_the_metrics_along() -> None:
    meter = exercised()

    def broken() -> list[VolumeGauges]:
        raise OSError

    meter.set_store_source(broken)
    assert value(meter, "requests_total", service="wu", outcome="hit", code="2xx", listener="plain") == 1
    assert value(meter, "store_bytes", volume="/a") is None


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8", b"\n"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b"\n"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; ", b"# EOF\n"),
        ("application/openmetrics-text;version=\r\n;;,", "application/openmetrics-text; ", b"# EOF\n"),
    ],
)
def test_format_follows_accept(accept: str | None, content_type: str, end: bytes) -> None:
    body, got_type = exercised().render(accept)
    assert got_type.startswith(content_type)
    assert "\n" not in got_type
    assert body.endswith(end)


def test_rendering_in_a_thread_while_counting_loses_nothing() -> None:
    meter = PrometheusMeter(services=["wu"])
    done = threading.Event()
    errors: list[BaseException] = []

    def render() -> None:
        try:
            while not done.is_set():
                meter.render(None)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=render)
    thread.start()
    for number in range(2000):
        meter.answered(answer("wu", OUTCOMES[number % 8], 200 + 100 * (number % 4), 1, 0.001, CLIENT))
    done.set()
    thread.join()
    assert errors == []
    counts = [count for (name, _), count in exposition(meter).items() if name == "cacheserver_requests_total"]
    assert sum(counts) == 2000
