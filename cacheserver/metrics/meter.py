"""The meter of a node: every report of the other packages becomes a number in one tally.

Owns: keeping label values in closed sets, and the exposition. Must not be touched by a label value that a client chose:
services, subnets, outcomes, code classes, error codes and volumes are closed sets, everything else becomes ``other``.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

import cacheserver
from cacheserver.core.cache.sources import SOURCE_CLASSES
from cacheserver.core.errors import error_kinds
from cacheserver.core.integrity.release import REFUSED
from cacheserver.metrics.collectors import Rows, VolumeGauges, families
from cacheserver.metrics.table import ANCHOR_RESULTS, ANCHORS, EVICTION_REASONS, LEVELS, MANIFESTS, RESULTS
from cacheserver.metrics.tally import OTHER, Tally

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusMeter(Collector):
    """Implements ``ports.Meter``; each instance has a registry of its own."""

    def __init__(self, *, services: Iterable[str] = (), subnets: Iterable[str] = ()) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self.tally = Tally()
        """Every count."""
        self.tally.allow_services(services)
        self.tally.allow_subnets(subnets)
        self.answered = self.tally.add
        """Count one answer; see ``ports.Meter``."""
        self.booked = self.tally.book
        """Count the bytes of one that is under way; see ``ports.Meter``."""
        self._count = self.tally.count
        self._codes = frozenset(kind.code for kind in error_kinds())
        self._fills = 0
        self._volumes: Callable[[], Iterable[VolumeGauges]] = tuple
        build = (cacheserver.__version__, platform.python_version())
        self._states: dict[str, Callable[[], Rows]] = {"build_info": lambda: [(build, 1.0)]}
        self.set_state_source("hit_ratio_requests", self.tally.hit_ratio_requests)
        self.set_state_source("hit_ratio_bytes", self.hit_ratio_bytes)
        self.set_state_source("fills_in_flight", lambda: self._fills)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Every row of the table but those of the process."""
        states = {name: rows() for name, rows in self._states.copy().items()}
        volumes: list[VolumeGauges] = []
        with contextlib.suppress(Exception):  # a volume that fails must not take the other metrics along
            volumes = list(self._volumes())
        yield from families(self.tally, states, volumes)

    # -- ports.Meter --------------------------------------------------------------------------------------------

    def refused(self, reason: str) -> None:
        """Count one refusal by error code."""
        self._count(("refused_total", self._code(reason)))

    def connection_refused(self, limit: str) -> None:
        """Count one connection that was one too many."""
        self._count(("connections_refused_total", limit))

    def upstream_request(self, service: str, source_class: str, result: str) -> None:
        """Count one upstream answer."""
        word = result if result in ("ok", "not_modified") else self._code(result)
        source = _one_of(source_class, SOURCE_CLASSES)
        self._count(("upstream_requests_total", self.tally.service(service), source, word))

    def upstream_bytes(self, service: str, source_class: str, body_bytes: int) -> None:
        """Count body bytes from a source."""
        if body_bytes > 0:
            source = _one_of(source_class, SOURCE_CLASSES)
            self._count(("upstream_bytes_total", self.tally.service(service), source), body_bytes)

    def fill_started(self) -> None:
        """One more fill runs."""
        self._fills += 1

    def fill_ended(self) -> None:
        """One fewer."""
        self._fills -= 1

    def collapsed(self) -> None:
        """One request waited for another one's fill."""
        self._count(("collapsed_waiters_total",))

    def verified(self, level: str, result: str) -> None:
        """Count one checked piece."""
        self._count(("verified_pieces_total", _one_of(level, LEVELS), _one_of(result, RESULTS)))

    def content_refused(self, reason: str) -> None:
        """Count one piece or content that was not let out."""
        self._count(("content_refused_total", _one_of(reason, REFUSED)))

    def content_refusals(self) -> dict[str, int]:
        """How many were not let out since the start, by reason."""
        return {key[1]: count for key, count in self.tally.counts() if key[0] == "content_refused_total"}

    def manifest(self, result: str) -> None:
        """Count one look for a manifest."""
        self._count(("manifests_total", _one_of(result, MANIFESTS)))

    def anchor(self, name: str, result: str) -> None:
        """Count one question to an anchor."""
        word = result if result in ANCHOR_RESULTS else self._code(result)
        self._count(("anchor_answers_total", _one_of(name, ANCHORS), word))

    def scrubbed(self, read_bytes: int) -> None:
        """Count stored bytes that were read again."""
        self._count(("scrubbed_bytes_total",), read_bytes)

    def struck(self, *, banned: bool) -> None:
        """Count a strike, and the ban that it led to."""
        self._count(("source_strikes_total",))
        if banned:
            self._count(("source_bans_total",))

    def evicted(self, volume: str, reason: str, freed_bytes: int) -> None:
        """Count one eviction and its bytes."""
        word = _one_of(reason, EVICTION_REASONS)
        self._count(("evictions_total", volume, word))
        self._count(("evicted_bytes_total", volume, word), max(0, freed_bytes))

    # -- what node sets, what admin reads -----------------------------------------------------------------------

    def set_store_source(self, source: Callable[[], Iterable[VolumeGauges]]) -> None:
        """Ask ``source`` at each exposition; it runs in the rendering thread and must be safe there."""
        self._volumes = source

    def set_state_source(self, name: str, source: Callable[[], float]) -> None:
        """Ask ``source`` for the state ``name`` of the table, without prefix, at each exposition; same hazard."""
        self._states[name] = lambda: [((), source())]

    def set_memory_source(self, source: Callable[[], Rows]) -> None:
        """Ask ``source`` for bytes by use at each exposition; same hazard."""
        self._states["body_memory_bytes"] = source

    def certificate(self, name: str, not_after_s: float) -> None:
        """Show the end of the certificate that is served now, in place of the one before."""
        self._states["certificate_not_after_timestamp_seconds"] = lambda: [((name,), not_after_s)]

    def hit_ratio_bytes(self) -> float:
        """Share of the sent bytes that did not cross the WAN since the start; 0 before the first byte."""
        sent_bytes = self.tally.body_bytes()
        received_bytes = sum(amount for key, amount in self.tally.counts() if key[0] == "upstream_bytes_total")
        return max(0.0, 1 - received_bytes / sent_bytes) if sent_bytes else 0.0

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Exposition and its Content-Type: OpenMetrics where ``accept`` names it, else text. May run in a thread."""
        if accept is not None and "application/openmetrics-text" in accept:
            return generate_openmetrics(self.registry), OPENMETRICS_TYPE  # type: ignore[no-untyped-call]
        return generate_latest(self.registry), TEXT_TYPE

    def _code(self, code: str) -> str:
        return code if code in self._codes else OTHER


def _one_of(word: str, words: tuple[str, ...]) -> str:
    return word if word in words else OTHER
