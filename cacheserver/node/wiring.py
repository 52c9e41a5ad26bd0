"""The composition root: the one place that constructs rooms, with ``node.wiring_web`` for those that answer.

Owns: who gets what. Must not start anything, and must hold no rule of caching or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cacheserver
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.via import via_token
from cacheserver.core.units import parse_listen, parse_size
from cacheserver.fill.asking import Asker
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.metadata import MetadataFetcher
from cacheserver.fill.opening import Opener
from cacheserver.fill.relay.body_buffer import Spool
from cacheserver.fill.relay.gated_body import GatedBodies
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.logs.build import Logs, build_logs
from cacheserver.logs.writer import LineWriter
from cacheserver.maintenance.load import Load
from cacheserver.maintenance.pinning import Pinning
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.metrics import PrometheusMeter
from cacheserver.node.admitted import Admitted
from cacheserver.node.wiring_web import Basis, WebSide, build_web_side
from cacheserver.settings.schema import Settings
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume
from cacheserver.system.clock import SystemClock
from cacheserver.trust.anchors import Anchors, build_anchors
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.resolver import VettedResolver
from cacheserver.web.answer.passing import Passing

USER_AGENT = f"cacheserver/{cacheserver.__version__}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that speaks to the outside."""

    resolver: VettedResolver
    client: UpstreamClient
    health: SourceHealth
    asker: Asker
    anchors: Anchors


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms whose lifetimes the node looks after."""

    clock: SystemClock
    meter: PrometheusMeter
    admitted: Admitted
    store: Store
    sources: Sources
    coordinator: Coordinator
    scrubber: Scrubber
    pinning: Pinning
    logs: Logs
    web: WebSide


def build_volumes(settings: Settings, clock: SystemClock) -> list[Volume]:
    """The volumes of the settings, not open yet."""
    return [
        Volume(
            path=volume.path,
            capacity_bytes=parse_size(volume.max_size),
            low_water_percent=settings.store.low_water_percent,
            errors_until_offline=settings.store.errors_until_offline,
            retry_s=settings.store.retry_offline_s,
            clock=clock,
        )
        for volume in settings.store.volumes
    ]


def build_rooms(
    settings: Settings,
    *,
    volumes: Sequence[Volume],
    clock: SystemClock,
    node_id: str,
    max_connections: int,
    stderr: LineWriter,
) -> Rooms:
    """Every room of a node, on opened volumes. ConfigError."""
    admitted = Admitted(settings)
    meter = PrometheusMeter(services=[service.name for service in admitted.services()], subnets=admitted.subnets.names)
    store = _store(settings, volumes, meter=meter)
    sources = _sources(settings, admitted, meter=meter, clock=clock, node_id=node_id)
    spool = Spool(limit_bytes=parse_size(settings.fill.spool_bytes))
    fetcher = _fetcher(settings, admitted, sources, meter=meter, clock=clock)
    coordinator = _coordinator(settings, fetcher, store, sources, spool, meter=meter, clock=clock)
    gated = _gated(settings, sources, store, meter=meter)
    passing = _passing(settings, fetcher, gated, spool, clock=clock, node_id=node_id)
    logs = build_logs(settings.log, stderr)
    basis = Basis(settings, admitted, store, meter, clock, logs, node_id)
    return Rooms(
        clock=clock,
        meter=meter,
        admitted=admitted,
        store=store,
        sources=sources,
        coordinator=coordinator,
        scrubber=_scrubber(settings, store, lambda: coordinator.fills_in_flight, meter=meter, clock=clock),
        pinning=Pinning(
            store=store, coordinator=coordinator, admit=admitted.target, percent=settings.store.pinned_percent
        ),
        logs=logs,
        web=build_web_side(basis, coordinator, gated, passing, max_connections=max_connections),
    )


def _store(settings: Settings, volumes: Sequence[Volume], *, meter: PrometheusMeter) -> Store:
    return Store(
        volumes=volumes,
        extent_bytes=parse_size(settings.store.extent),
        open_objects=settings.store.open_objects,
        io_threads=settings.store.io_threads,
        meter=meter,
    )


def _sources(
    settings: Settings, admitted: Admitted, *, meter: PrometheusMeter, clock: SystemClock, node_id: str
) -> Sources:
    resolver = VettedResolver(
        connect_to={host: parse_listen(address) for host, address in settings.upstream.connect_to.items()},
        allowed_for=admitted.networks,
        ttl_s=settings.upstream.dns_ttl_s,
    )
    client = UpstreamClient(
        options=settings.upstream,
        resolver=resolver,
        redirect=admitted.redirect,
        clock=clock,
        meter=meter,
        user_agent=USER_AGENT,
    )
    health = SourceHealth()
    asker = Asker(upstream=client, node_id=node_id, health=health, clock=clock, meter=meter)
    anchors = build_anchors(settings.trust, clock=clock, count=meter.anchor, user_agent=USER_AGENT, resolver=resolver)
    return Sources(resolver, client, health, asker, anchors)


def _fetcher(
    settings: Settings, admitted: Admitted, sources: Sources, *, meter: PrometheusMeter, clock: SystemClock
) -> MetadataFetcher:
    return MetadataFetcher(
        asker=sources.asker,
        anchor=sources.anchors,
        admit=admitted.target,
        meter=meter,
        clock=clock,
        negative_s=settings.fill.negative_s,
    )


def _gated(settings: Settings, sources: Sources, store: Store, *, meter: PrometheusMeter) -> GatedBodies:
    return GatedBodies(
        asker=sources.asker,
        meter=meter,
        executor=store.executor,
        hold_timeout_s=settings.fill.hold_timeout_s,
        piece_size_bytes=parse_size(settings.store.piece_size),
    )


def _coordinator(
    settings: Settings,
    fetcher: MetadataFetcher,
    store: Store,
    sources: Sources,
    spool: Spool,
    *,
    meter: PrometheusMeter,
    clock: SystemClock,
) -> Coordinator:
    opener = Opener(
        store=store,
        asker=sources.asker,
        fetcher=fetcher,
        options=settings.fill,
        piece_size_bytes=parse_size(settings.store.piece_size),
        spool=spool,
    )
    return Coordinator(
        store=store,
        asker=sources.asker,
        opener=opener,
        fetcher=fetcher,
        options=settings.fill,
        meter=meter,
        clock=clock,
    )


def _passing(
    settings: Settings, fetcher: MetadataFetcher, gated: GatedBodies, spool: Spool, *, clock: SystemClock, node_id: str
) -> Passing:
    metadata = PassMetadata(
        fetcher=fetcher,
        clock=clock,
        piece_size_bytes=gated.piece_size_bytes,
        keep_s=settings.fill.pass_memory_s,
    )
    return Passing(
        gated=gated,
        metadata=metadata,
        via=via_token(node_id),
        spool=spool,
        first_byte_s=settings.fill.first_byte_s,
    )


def _scrubber(
    settings: Settings, store: Store, fills: Callable[[], int], *, meter: PrometheusMeter, clock: SystemClock
) -> Scrubber:
    return Scrubber(
        store=store,
        options=settings.scrub,
        clock=clock,
        load=Load(fills=fills, sent_bytes=meter.response_bytes, clock=clock),
        count=meter.scrubbed,
        piece_size_bytes=parse_size(settings.store.piece_size),
    )
