"""From numbers to metric families, at each exposition.

Owns: how a tally, the volumes and the node's states become the rows of the table. Counts nothing and keeps nothing.
Runs in the rendering thread, beside the loop that counts.
"""

from __future__ import annotations

import contextlib
from collections import Counter as Sums
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cacheserver.metrics.table import ANSWERS, EVENTS, LEVELS, PREFIX, RESULTS, STATES, STORE, MetricDoc
from cacheserver.metrics.tally import OTHER, Durations, Tally

_ZEROS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "verified_pieces_total": tuple(product(LEVELS, RESULTS)),
}
"""Rows that begin at 0, beside those of metrics without labels: an alert must see the very first event as a rise."""


@dataclass(frozen=True, slots=True)
class VolumeGauges:
    """One volume at one moment, for the store metrics; ``volume`` is a short stable name, such as its path."""

    volume: str
    stored_bytes: int
    capacity_bytes: int
    objects: int
    online: bool
    quarantined: int = 0
    scrubbed_s: float = 0.0
    reserved_bytes: int = 0
    writable: bool = True
    errors: int = 0
    eviction_age_s: float = 0.0
    ghost_hits: int = 0
    ghost_hit_bytes: int = 0
    pinned_objects: int = 0
    pinned_bytes: int = 0


class TallyCollector(Collector):
    """Answers and events, read from the tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """Every row of ``ANSWERS`` and ``EVENTS``."""
        yield from self._answers()
        yield from self._durations()
        yield from self._events()

    def _answers(self) -> Iterator[Metric]:
        rows: dict[str, Sums[tuple[str, ...]]] = {doc.name: Sums() for doc in ANSWERS if doc.type == "counter"}
        requests, sent_bytes, subnet_requests, subnet_bytes = rows.values()
        for (service, outcome, status_class, listener, subnet), cell in self._tally.cells():
            code = f"{status_class}xx" if status_class else OTHER
            requests[service, outcome, code, listener] += cell.count
            sent_bytes[service, outcome, listener] += cell.body_bytes
            subnet_requests[subnet, outcome] += cell.count
            subnet_bytes[subnet, outcome] += cell.body_bytes
        for doc, sums in zip(ANSWERS, rows.values(), strict=False):
            yield _counter(doc, sums.items())

    def _durations(self) -> Iterator[Metric]:
        total, first_byte = (doc for doc in ANSWERS if doc.type == "histogram")
        times = self._tally.times()
        yield _histogram(total, ((outcome, of.at_once, of.total) for outcome, of in times))
        yield _histogram(first_byte, ((outcome, of.at_once, of.first_byte) for outcome, of in times))

    def _events(self) -> Iterator[Metric]:
        rows: dict[str, dict[tuple[str, ...], int]] = {}
        for doc in EVENTS:
            name = doc.name.removeprefix(PREFIX)
            rows[name] = dict.fromkeys(_ZEROS.get(name, () if doc.labels else ((),)), 0)
        for (name, *labels), amount in self._tally.counts():
            if name in rows:
                rows[name][tuple(labels)] = amount
        for doc in EVENTS:
            yield _counter(doc, rows[doc.name.removeprefix(PREFIX)].items())


class StateCollector(Collector):
    """States of the node, each asked of the function that was set for it."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], float]] = {}
        """By name in the table without prefix; one that nobody has set is 0."""
        self.labelled: dict[str, tuple[tuple[str, ...], float]] = {}
        """The same for rows with labels: their values, and the number."""

    def collect(self) -> Iterator[Metric]:
        """Every row of ``STATES``."""
        for doc in STATES:
            name = doc.name.removeprefix(PREFIX)
            rows: list[tuple[tuple[str, ...], float]] = []
            if not doc.labels:
                rows = [((), self.sources.get(name, float)())]
            elif name in self.labelled:
                rows = [self.labelled[name]]
            yield _counter(doc, rows) if doc.type == "counter" else _gauge(doc, rows)


class StoreCollector(Collector):
    """The volumes, as one function gives them."""

    def __init__(self) -> None:
        self.source: Callable[[], Iterable[VolumeGauges]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Every row of ``STORE``."""
        volumes: list[VolumeGauges] = []
        with contextlib.suppress(Exception):  # a volume that fails must not take the other metrics along
            volumes = list(self.source())
        for doc in STORE:
            value = _STORE_VALUES[doc.name.removeprefix(PREFIX)]
            rows = [((volume.volume,), value(volume)) for volume in volumes]
            yield _counter(doc, rows) if doc.type == "counter" else _gauge(doc, rows)


_STORE_VALUES: Final[dict[str, Callable[[VolumeGauges], float]]] = {
    "store_bytes": lambda volume: volume.stored_bytes,
    "store_reserved_bytes": lambda volume: volume.reserved_bytes,
    "store_capacity_bytes": lambda volume: volume.capacity_bytes,
    "store_objects": lambda volume: volume.objects,
    "store_online": lambda volume: int(volume.online),
    "store_writable": lambda volume: int(volume.writable),
    "store_errors_total": lambda volume: volume.errors,
    "store_eviction_age_seconds": lambda volume: volume.eviction_age_s,
    "store_ghost_hits_total": lambda volume: volume.ghost_hits,
    "store_ghost_hit_bytes_total": lambda volume: volume.ghost_hit_bytes,
    "pinned_objects": lambda volume: volume.pinned_objects,
    "pinned_bytes": lambda volume: volume.pinned_bytes,
    "quarantined_pieces": lambda volume: volume.quarantined,
    "scrub_last_complete_timestamp_seconds": lambda volume: volume.scrubbed_s,
}


def _counter(doc: MetricDoc, rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = CounterMetricFamily(doc.name, doc.meaning, labels=doc.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _gauge(doc: MetricDoc, rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(doc.name, doc.meaning, labels=doc.labels)
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
