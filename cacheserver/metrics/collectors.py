"""From numbers to metric families, at each exposition.

Owns: how a tally, the volumes and the node's states become the rows of the table. Counts nothing and keeps nothing.
Runs in the rendering thread, beside the loop that counts.
"""

from __future__ import annotations

from collections import Counter as Sums
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cacheserver.metrics.table import ANSWERS, CONNECTION_LIMITS, EVENTS, LEVELS, RESULTS, STATES, STORE, MetricDoc
from cacheserver.metrics.tally import OTHER, Durations, Tally

_ZEROS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "connections_refused_total": tuple((limit,) for limit in CONNECTION_LIMITS),
    "verified_pieces_total": tuple(product(LEVELS, RESULTS)),
}
"""Rows that begin at 0, beside those of metrics without labels: an alert must see the very first event as a rise."""

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the number."""


@dataclass(frozen=True, slots=True)
class VolumeGauges:
    """One volume at one moment: a field for each metric of ``STORE``, and a short stable name, such as its path."""

    volume: str
    store_bytes: int
    store_capacity_bytes: int
    store_objects: int
    store_online: bool
    store_reserved_bytes: int = 0
    store_writable: bool = True
    store_errors_total: int = 0
    store_eviction_age_seconds: float = 0.0
    store_ghost_hits_total: int = 0
    store_ghost_hit_bytes_total: int = 0
    pinned_objects: int = 0
    pinned_bytes: int = 0
    quarantined_pieces: int = 0
    scrub_last_complete_timestamp_seconds: float = 0.0


def families(tally: Tally, states: Mapping[str, Rows], volumes: Iterable[VolumeGauges]) -> Iterator[Metric]:
    """Every metric of the table but those of the process.

    ``states`` has rows by name without prefix; a state without labels that is not in it is 0.
    """
    yield from _answers(tally)
    yield from _events(tally)
    for doc in STATES:
        yield _family(doc, states.get(doc.key, () if doc.labels else (((), 0.0),)))
    for doc in STORE:
        yield _family(doc, [((volume.volume,), getattr(volume, doc.key)) for volume in volumes])


def _answers(tally: Tally) -> Iterator[Metric]:
    rows: dict[str, Sums[tuple[str, ...]]] = {doc.name: Sums() for doc in ANSWERS if doc.type == "counter"}
    requests, sent_bytes, subnet_requests, subnet_bytes = rows.values()
    for (service, outcome, status_class, listener), cell in tally.cells():
        code = f"{status_class}xx" if status_class else OTHER
        requests[service, outcome, code, listener] += cell.count
        sent_bytes[service, outcome, listener] += cell.body_bytes
    for pair, group in tally.groups():
        subnet_requests[pair] += group.count
        subnet_bytes[pair] += group.body_bytes
    for doc, sums in zip(ANSWERS, rows.values(), strict=False):
        yield _family(doc, sums.items())
    total, first_byte = (doc for doc in ANSWERS if doc.type == "histogram")
    times = tally.times()
    yield _histogram(total, ((outcome, of.at_once, of.total) for outcome, of in times))
    yield _histogram(first_byte, ((outcome, of.at_once, of.first_byte) for outcome, of in times))


def _events(tally: Tally) -> Iterator[Metric]:
    rows: dict[str, dict[tuple[str, ...], int]] = {
        doc.key: dict.fromkeys(_ZEROS.get(doc.key, () if doc.labels else ((),)), 0) for doc in EVENTS
    }
    for (name, *labels), amount in tally.counts():
        if name in rows:
            rows[name][tuple(labels)] = amount
    for doc in EVENTS:
        yield _family(doc, rows[doc.key].items())


def _family(doc: MetricDoc, rows: Rows) -> Metric:
    kind = CounterMetricFamily if doc.type == "counter" else GaugeMetricFamily
    family = kind(doc.name, doc.meaning, labels=doc.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _histogram(doc: MetricDoc, rows: Iterable[tuple[str, Durations, Durations]]) -> Metric:
    """Each row: outcome and the two parts whose sum is its histogram."""
    family = HistogramMetricFamily(doc.name, doc.meaning, labels=doc.labels)
    for outcome, one, other in rows:
        bounds = [*(repr(bound) for bound in one.bounds_s), "+Inf"]
        counts = accumulate(a + b for a, b in zip(one.buckets, other.buckets, strict=True))
        family.add_metric([outcome], list(zip(bounds, counts, strict=True)), one.sum_s + other.sum_s)
    return family
