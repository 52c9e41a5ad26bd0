"""Prometheus metrics: one table says what exists, one meter counts it.

Owns: names, labels and their bounds. Must not be touched by a label value that a client chose: services, outcomes,
code classes, error codes and volumes are closed sets, everything else becomes ``other``.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

import cacheserver
from cacheserver.core.errors import CacheserverError
from cacheserver.core.tally import OTHER, Tally

PREFIX: Final = "cacheserver_"
TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LEVELS: Final = ("at_rest", "self_consistent", "anchored")
_RESULTS: Final = ("ok", "bad", "unreadable")
_MANIFESTS: Final = ("anchored", "self_consistent", "absent", "refused", "contradicts", "timeout")
_ANCHORS: Final = ("content_policy", "edge_cdp", "catalogue", "name", "digest_field")
_ANCHOR_RESULTS: Final = ("claim", "silent", "timeout", "failed")
_EVICTION_REASONS: Final = ("space", "purged", "superseded", "corrupt")


class MetricDoc(NamedTuple):
    """One metric: name in the text format, Prometheus type, label names, meaning."""

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str


def _doc(name: str, kind: str, labels: str, meaning: str) -> MetricDoc:
    return MetricDoc(PREFIX + name, kind, tuple(labels.split()), meaning)


METRICS: Final[tuple[MetricDoc, ...]] = (
    _doc("requests_total", "counter", "service outcome code", "Answers by outcome and status class (2xx)."),
    _doc("response_bytes_total", "counter", "service outcome", "Body bytes that reached client sockets."),
    _doc("request_duration_seconds", "histogram", "outcome", "From the request's head to the answer's last byte."),
    _doc("refused_total", "counter", "reason", "Requests refused by the node itself, by error code."),
    _doc("upstream_requests_total", "counter", "service result", "Upstream answers: ok, not_modified, or error code."),
    _doc("upstream_bytes_total", "counter", "service", "Body bytes received from sources."),
    _doc("fills_in_flight", "gauge", "", "Upstream fill requests running now."),
    _doc("collapsed_waiters_total", "counter", "", "Requests that waited for a fill which another one had started."),
    _doc("verified_pieces_total", "counter", "level result", "Pieces checked: at_rest, self_consistent or anchored."),
    _doc("manifests_total", "counter", "result", "Looks for a manifest: trust level found, or why there is none."),
    _doc("anchor_answers_total", "counter", "anchor result", "Questions to anchors: claim, silent, or why none came."),
    _doc("scrubbed_bytes_total", "counter", "", "Stored bytes that the scrubber has read again."),
    _doc("source_strikes_total", "counter", "", "Bad pieces that were blamed on a source."),
    _doc("source_bans_total", "counter", "", "Sources banned for bad pieces."),
    _doc("evictions_total", "counter", "reason", "Times that space was given back."),
    _doc("evicted_bytes_total", "counter", "reason", "Bytes given back: space, purged, superseded or corrupt."),
    _doc("hit_ratio_requests", "gauge", "", "Hits, stale and revalidated ones among all answers but refused ones."),
    _doc("hit_ratio_bytes", "gauge", "", "1 - upstream bytes / response bytes since the start, at least 0."),
    _doc("store_bytes", "gauge", "volume", "Bytes stored and reserved."),
    _doc("store_capacity_bytes", "gauge", "volume", "Most bytes that the volume may hold."),
    _doc("store_objects", "gauge", "volume", "Objects in the catalogue."),
    _doc("store_online", "gauge", "volume", "1 while the volume is in use, 0 while it is offline."),
    _doc("quarantined_pieces", "gauge", "volume", "Copies of bad pieces in quarantine."),
    _doc(
        "scrub_last_complete_timestamp_seconds",
        "gauge",
        "volume",
        "Unix time at which every stored piece had been read again; 0: never.",
    ),
    _doc(
        "certificate_not_after_timestamp_seconds",
        "gauge",
        "name",
        "Unix time at which the certificate that TLS listeners serve ends, by file name.",
    ),
    _doc("pinned_objects", "gauge", "volume", "Pinned objects that the volume keeps."),
    _doc("pinned_bytes", "gauge", "volume", "Bytes that they take when they are complete."),
    _doc("connections", "gauge", "", "Client connections open on the content listener."),
    _doc("build_info", "gauge", "version python", "Always 1."),
)


@dataclass(frozen=True, slots=True)
class VolumeGauges:
    """One volume at one moment, for the store gauges; ``volume`` is a short stable name, such as its path."""

    volume: str
    stored_bytes: int
    capacity_bytes: int
    objects: int
    online: bool
    quarantined: int = 0
    scrubbed_s: float = 0.0
    pinned_objects: int = 0
    pinned_bytes: int = 0


class PrometheusMeter:
    """Implements ``ports.Meter``; each instance has a registry of its own."""

    def __init__(self, *, services: Iterable[str] = ()) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._docs = {doc.name: doc for doc in METRICS}
        self.registry = CollectorRegistry(auto_describe=False)
        self._tally = Tally.of_answers()
        self._tally.allow_services(services)
        self._codes = _error_codes()
        self._refused = self._counter("refused_total")
        self._upstream_requests = self._counter("upstream_requests_total")
        self._upstream_bytes = self._counter("upstream_bytes_total")
        self._fills = self._gauge("fills_in_flight")
        self._collapsed = self._counter("collapsed_waiters_total")
        self._verified = self._counter("verified_pieces_total")
        self._manifests = self._counter("manifests_total")
        self._anchor_answers = self._counter("anchor_answers_total")
        self._scrubbed = self._counter("scrubbed_bytes_total")
        self._strikes = self._counter("source_strikes_total")
        self._bans = self._counter("source_bans_total")
        self._evictions = self._counter("evictions_total")
        self._evicted_bytes = self._counter("evicted_bytes_total")
        self._gauge("hit_ratio_requests").set_function(self._tally.hit_ratio_requests)
        self._gauge("hit_ratio_bytes").set_function(self.hit_ratio_bytes)
        self._connections = self._gauge("connections")
        self._certificate = self._gauge("certificate_not_after_timestamp_seconds")
        self._gauge("build_info").labels(cacheserver.__version__, platform.python_version()).set(1)
        self._store = _StoreCollector(self._docs)
        self.registry.register(self._store)
        self.registry.register(_TallyCollector(self._docs, self._tally))
        self._bound: dict[tuple[str, ...], Callable[..., None]] = {}
        self._received_bytes = 0

    # -- ports.Meter --------------------------------------------------------------------------------------------

    def request(self, service: str, outcome: str, status: int, body_bytes: int, duration_s: float) -> None:
        """Count one answer; see ``ports.Meter``."""
        self._tally.add(service, outcome, status, max(0, body_bytes), duration_s)

    def refused(self, reason: str) -> None:
        """Count one refusal by error code."""
        self._inc(self._refused, "refused", self._code(reason))

    def upstream_request(self, service: str, result: str) -> None:
        """Count one upstream answer."""
        word = result if result in ("ok", "not_modified") else self._code(result)
        self._inc(self._upstream_requests, "upstream", self._tally.service(service), word)

    def upstream_bytes(self, service: str, body_bytes: int) -> None:
        """Count body bytes from a source."""
        if body_bytes <= 0:
            return
        self._received_bytes += body_bytes
        name = self._tally.service(service)
        add = self._bound.get(("upstream_bytes", name))
        if add is None:
            add = self._bound["upstream_bytes", name] = self._upstream_bytes.labels(name).inc
        add(body_bytes)

    def fill_started(self) -> None:
        """One more fill runs."""
        self._fills.inc()

    def fill_ended(self) -> None:
        """One fewer."""
        self._fills.dec()

    def collapsed(self) -> None:
        """One request waited for another one's fill."""
        self._collapsed.inc()

    def verified(self, level: str, result: str) -> None:
        """Count one checked piece."""
        self._inc(self._verified, "verified", _one_of(level, _LEVELS), _one_of(result, _RESULTS))

    def manifest(self, result: str) -> None:
        """Count one look for a manifest."""
        self._inc(self._manifests, "manifests", _one_of(result, _MANIFESTS))

    def anchor(self, name: str, result: str) -> None:
        """Count one question to an anchor."""
        word = result if result in _ANCHOR_RESULTS else self._code(result)
        self._inc(self._anchor_answers, "anchors", _one_of(name, _ANCHORS), word)

    def scrubbed(self, read_bytes: int) -> None:
        """Count stored bytes that were read again."""
        self._scrubbed.inc(read_bytes)

    def struck(self, *, banned: bool) -> None:
        """Count a strike, and the ban that it led to."""
        self._strikes.inc()
        if banned:
            self._bans.inc()

    def evicted(self, reason: str, freed_bytes: int) -> None:
        """Count one eviction and its bytes."""
        word = _one_of(reason, _EVICTION_REASONS)
        self._inc(self._evictions, "evictions", word)
        self._evicted_bytes.labels(word).inc(max(0, freed_bytes))

    # -- what node sets, what admin reads -----------------------------------------------------------------------

    def allow_services(self, names: Iterable[str]) -> None:
        """Give these service names series of their own, up to a limit in all; call it again after a reload."""
        self._tally.allow_services(names)

    def set_store_source(self, source: Callable[[], Iterable[VolumeGauges]]) -> None:
        """Ask ``source`` at each exposition; it runs in the rendering thread and must be safe there."""
        self._store.source = source

    def set_connections_source(self, source: Callable[[], int]) -> None:
        """Ask ``source`` for the number of open client connections at each exposition; same hazard."""
        self._connections.set_function(source)

    def absorb(self, taken: bytes) -> None:
        """Add answers that a worker has counted (``Tally.take``)."""
        self._tally.absorb(taken)

    def answers(self) -> int:
        """Answers since the start."""
        return self._tally.answers()

    def certificate(self, name: str, not_after_s: float) -> None:
        """Show the end of the certificate that is served now, in place of the one before."""
        self._certificate.clear()
        self._certificate.labels(name).set(not_after_s)

    def response_bytes(self) -> int:
        """Body bytes that reached clients since the start."""
        return self._tally.body_bytes()

    def hit_ratio_bytes(self) -> float:
        """Share of the sent bytes that did not cross the WAN since the start; 0 before the first byte."""
        sent_bytes = self._tally.body_bytes()
        return max(0.0, 1 - self._received_bytes / sent_bytes) if sent_bytes else 0.0

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Exposition and its Content-Type: OpenMetrics where ``accept`` names it, else text. May run in a thread."""
        if accept is not None and "application/openmetrics-text" in accept:
            return _openmetrics(self.registry), OPENMETRICS_TYPE
        return _text(self.registry), TEXT_TYPE

    # -- binding: once per label set ----------------------------------------------------------------------------

    def _inc(self, counter: Counter, name: str, *labels: str) -> None:
        """Count one; ``labels`` come from closed sets, so that ``_bound`` stays small."""
        key = (name, *labels)
        inc = self._bound.get(key)
        if inc is None:
            inc = self._bound[key] = counter.labels(*labels).inc
        inc()

    def _code(self, code: str) -> str:
        return code if code in self._codes else OTHER

    def _counter(self, name: str) -> Counter:
        doc = self._docs[PREFIX + name]
        return Counter(doc.name, doc.meaning, doc.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        doc = self._docs[PREFIX + name]
        return Gauge(doc.name, doc.meaning, doc.labels, registry=self.registry)


class _TallyCollector(Collector):
    """The answers' counters and durations, read from the tally at each exposition."""

    def __init__(self, docs: dict[str, MetricDoc], tally: Tally) -> None:
        self._docs = docs
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        requests = self._counter("requests_total")
        sent_bytes = self._counter("response_bytes_total")
        by_outcome: dict[tuple[str, str], int] = {}
        for (service, outcome, status_class), cell in self._tally.cells():
            requests.add_metric([service, outcome, f"{status_class}xx" if status_class else OTHER], cell.count)
            by_outcome[service, outcome] = by_outcome.get((service, outcome), 0) + cell.body_bytes
        for (service, outcome), body_bytes in by_outcome.items():
            sent_bytes.add_metric([service, outcome], body_bytes)
        yield from (requests, sent_bytes)
        doc = self._docs[PREFIX + "request_duration_seconds"]
        seconds = HistogramMetricFamily(doc.name, doc.meaning, labels=doc.labels)
        for outcome, durations in self._tally.durations():
            bounds = [*(repr(bound) for bound in durations.bounds_s), "+Inf"]
            buckets = list(zip(bounds, accumulate(durations.buckets), strict=True))
            seconds.add_metric([outcome], buckets, durations.sum_s)
        yield seconds

    def _counter(self, name: str) -> CounterMetricFamily:
        doc = self._docs[PREFIX + name]
        return CounterMetricFamily(doc.name, doc.meaning, labels=doc.labels)


class _StoreCollector(Collector):
    """The store gauges, asked for at each exposition."""

    def __init__(self, docs: dict[str, MetricDoc]) -> None:
        self._docs = docs
        self.source: Callable[[], Iterable[VolumeGauges]] = tuple

    def collect(self) -> Iterator[Metric]:
        volumes: list[VolumeGauges] = []
        with contextlib.suppress(Exception):  # a volume that fails must not take the other metrics along
            volumes = list(self.source())
        columns: tuple[tuple[str, Callable[[VolumeGauges], float]], ...] = (
            ("store_bytes", lambda volume: volume.stored_bytes),
            ("store_capacity_bytes", lambda volume: volume.capacity_bytes),
            ("store_objects", lambda volume: volume.objects),
            ("store_online", lambda volume: int(volume.online)),
            ("quarantined_pieces", lambda volume: volume.quarantined),
            ("scrub_last_complete_timestamp_seconds", lambda volume: volume.scrubbed_s),
            ("pinned_objects", lambda volume: volume.pinned_objects),
            ("pinned_bytes", lambda volume: volume.pinned_bytes),
        )
        for name, value in columns:
            doc = self._docs[PREFIX + name]
            family = GaugeMetricFamily(doc.name, doc.meaning, labels=doc.labels)
            for volume in volumes:
                family.add_metric([volume.volume], value(volume))
            yield family


_text: Callable[[CollectorRegistry], bytes] = generate_latest
_openmetrics: Callable[[CollectorRegistry], bytes] = generate_openmetrics  # untyped in the package


def _one_of(word: str, words: tuple[str, ...]) -> str:
    return word if word in words else OTHER


def _error_codes() -> frozenset[str]:
    """Every ``code`` of the error tree."""
    codes: set[str] = set()
    todo: list[type[CacheserverError]] = [CacheserverError]
    while todo:
        kind = todo.pop()
        codes.add(kind.code)
        todo.extend(kind.__subclasses__())
    return frozenset(codes)
