"""The composition root: the one place that constructs rooms, with ``node.wiring_web`` for those that answer.

Owns: who gets what. Must not start anything, and must hold no rule of caching or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cacheserver
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.via import via_token
from cacheserver.core.units import parse_listen
from cacheserver.fill.asking import Asker
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.metadata import MetadataFetcher
from cacheserver.fill.opening import Opener
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.fill.relay.relayed_body import Relay
from cacheserver.fill.revalidation import Revalidation
from cacheserver.fill.slots import Slots
from cacheserver.logs.build import Logs, build_logs
from cacheserver.logs.writer import LineWriter
from cacheserver.maintenance.load import Load
from cacheserver.maintenance.pinning import Pinning
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.metrics.meter import PrometheusMeter
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
    revalidation: Revalidation
    scrubber: Scrubber
    pinning: Pinning
    logs: Logs
    web: WebSide


def build_volumes(settings: Settings, clock: SystemClock) -> list[Volume]:
    """The volumes of the settings, not open yet."""
    return [
        Volume(
            path=volume.path,
            capacity_bytes=volume.max_size.bytes,
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
    buffer = BodyBuffer(limit_bytes=settings.fill.spool_bytes.bytes)
    fetcher = _fetcher(settings, admitted, sources, meter=meter, clock=clock)
    coordinator, revalidation = _fills(settings, fetcher, store, sources, buffer, meter=meter, clock=clock)
    relay = _relay(settings, sources, store, meter=meter)
    passing = _passing(settings, fetcher, relay, buffer, clock=clock, node_id=node_id)
    logs = build_logs(settings.log, stderr)
    basis = Basis(settings, admitted, store, meter, clock, logs, node_id)
    return Rooms(
        clock=clock,
        meter=meter,
        admitted=admitted,
        store=store,
        sources=sources,
        coordinator=coordinator,
        revalidation=revalidation,
        scrubber=_scrubber(settings, store, lambda: coordinator.fills_in_flight, meter=meter, clock=clock),
        pinning=Pinning(
            store=store, coordinator=coordinator, admit=admitted.target, percent=settings.store.pinned_percent
        ),
        logs=logs,
        web=build_web_side(basis, coordinator, revalidation, relay, passing, max_connections=max_connections),
    )


def _store(settings: Settings, volumes: Sequence[Volume], *, meter: PrometheusMeter) -> Store:
    return Store(
        volumes=volumes,
        extent_bytes=settings.store.extent.bytes,
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
        count=meter.upstream_request,
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


def _relay(settings: Settings, sources: Sources, store: Store, *, meter: PrometheusMeter) -> Relay:
    return Relay(
        asker=sources.asker,
        meter=meter,
        executor=store.executor,
        hold_timeout_s=settings.fill.hold_timeout_s,
        piece_size_bytes=settings.store.piece_size.bytes,
    )


def _fills(
    settings: Settings,
    fetcher: MetadataFetcher,
    store: Store,
    sources: Sources,
    buffer: BodyBuffer,
    *,
    meter: PrometheusMeter,
    clock: SystemClock,
) -> tuple[Coordinator, Revalidation]:
    slots = Slots(per_origin=settings.fill.per_origin, total=settings.fill.total)
    opener = Opener(
        store=store,
        asker=sources.asker,
        fetcher=fetcher,
        options=settings.fill,
        piece_size_bytes=settings.store.piece_size.bytes,
        buffer=buffer,
    )
    coordinator = Coordinator(
        store=store,
        asker=sources.asker,
        opener=opener,
        fetcher=fetcher,
        slots=slots,
        options=settings.fill,
        meter=meter,
        clock=clock,
    )
    revalidation = Revalidation(
        store=store, asker=sources.asker, opener=opener, slots=slots, begin=coordinator.begin, meter=meter
    )
    return coordinator, revalidation


def _passing(
    settings: Settings,
    fetcher: MetadataFetcher,
    relay: Relay,
    buffer: BodyBuffer,
    *,
    clock: SystemClock,
    node_id: str,
) -> Passing:
    metadata = PassMetadata(
        fetcher=fetcher,
        clock=clock,
        piece_size_bytes=relay.piece_size_bytes,
        keep_s=settings.fill.pass_memory_s,
    )
    return Passing(
        options=settings.server,
        relay=relay,
        metadata=metadata,
        via=via_token(node_id),
        buffer=buffer,
        first_byte_s=settings.fill.first_byte_s,
    )


def _scrubber(
    settings: Settings, store: Store, fills: Callable[[], int], *, meter: PrometheusMeter, clock: SystemClock
) -> Scrubber:
    return Scrubber(
        store=store,
        options=settings.scrub,
        clock=clock,
        load=Load(fills=fills, sent_bytes=meter.tally.body_bytes, clock=clock),
        count=meter.scrubbed,
        piece_size_bytes=settings.store.piece_size.bytes,
    )
