"""The composition root: the one place that constructs components, with ``node.wiring_web`` for those that answer.

Owns: which component gets which. Must not start anything, and must hold no rule of caching or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cacheserver
from cacheserver.core.cache.back_off import BackOff
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.http.via import via_token
from cacheserver.core.memory_budget import MemoryBudget, Use
from cacheserver.core.turns.origin import Limits
from cacheserver.core.units import parse_listen
from cacheserver.fill.asking import Asker
from cacheserver.fill.context import FillContext
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.judging import Judge
from cacheserver.fill.metadata import MetadataFetcher
from cacheserver.fill.opening import Opener
from cacheserver.fill.relay.body_buffer import TOTAL_FACTOR, BodyBuffer
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.fill.relay.relayed_body import Relay
from cacheserver.fill.revalidation import Revalidation
from cacheserver.fill.slots import Slots
from cacheserver.logs.build import Logs, build_logs
from cacheserver.logs.writer import LineWriter
from cacheserver.maintenance.pace import Load
from cacheserver.maintenance.pinning import Pinning
from cacheserver.maintenance.rejudging import Rejudging
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.node.admitted import Admitted
from cacheserver.node.wiring_web import Basis, WebSide, build_web_side
from cacheserver.outgoing.lookups import Lookups
from cacheserver.settings.schema import Settings
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume
from cacheserver.system.clock import SystemClock
from cacheserver.system.descriptors import Shares
from cacheserver.trust.anchors import Anchors, build_anchors
from cacheserver.trust.issued import Issued
from cacheserver.upstream.backing_off import BackingOff
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.resolver import NEGATIVE_S, VettedResolver
from cacheserver.web.answer.passing import Passing

USER_AGENT = f"cacheserver/{cacheserver.__version__}"


@dataclass(frozen=True, slots=True)
class Sources:
    """The components that ask others."""

    resolver: VettedResolver
    client: UpstreamClient
    health: SourceHealth
    asker: Asker
    anchors: Anchors
    fetcher: MetadataFetcher


@dataclass(frozen=True, slots=True)
class Components:
    """The components that the node starts, reloads and stops."""

    clock: SystemClock
    meter: PrometheusMeter
    admitted: Admitted
    store: Store
    sources: Sources
    coordinator: Coordinator
    judge: Judge
    revalidation: Revalidation
    scrubber: Scrubber
    rejudging: Rejudging
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


def build_components(
    settings: Settings,
    *,
    volumes: Sequence[Volume],
    clock: SystemClock,
    node_id: str,
    descriptors: Shares,
    stderr: LineWriter,
) -> Components:
    """Every component of a node, on opened volumes. Raises ConfigError."""
    admitted = Admitted(settings)
    meter = PrometheusMeter(services=[service.name for service in admitted.services()], subnets=admitted.subnets.names)
    store = Store(
        volumes=volumes,
        extent_bytes=settings.store.extent.bytes,
        open_objects=descriptors.open_objects,
        io_threads=settings.store.io_threads,
        meter=meter,
    )
    basis = Basis(settings, admitted, store, meter, clock, node_id)
    sources = _sources(basis)
    buffer = _body_buffer(basis)
    coordinator, judge, revalidation = _fills(basis, sources, buffer)
    relay = Relay(
        asker=sources.asker,
        meter=meter,
        executor=store.executor,
        hold_timeout_s=settings.fill.hold_timeout_s,
        piece_size_bytes=settings.store.piece_size.bytes,
    )
    passing = _passing(basis, sources.fetcher, relay, buffer)
    buffer.budget.watch(Use.REFUSALS, lambda: coordinator.remembered.refusals_bytes)
    buffer.budget.watch(Use.MANIFESTS, lambda: passing.metadata.held_bytes)
    logs = build_logs(settings.log, stderr)
    web = build_web_side(
        basis,
        coordinator,
        revalidation,
        relay,
        passing,
        judge,
        access_log=logs.access,
        max_connections=descriptors.connections,
    )
    load = Load(fills=lambda: coordinator.fills_in_flight, sent_bytes=meter.tally.body_bytes, clock=clock)
    scrubber = _scrubber(basis, load)
    judging = Rejudging(
        store=store,
        judge=judge,
        recheck=coordinator.recheck,
        admit=admitted.target,
        options=settings.scrub,
        load=load,
        clock=clock,
    )
    pinned_percent = settings.store.pinned_percent
    pinning = Pinning(store=store, coordinator=coordinator, admit=admitted.target, percent=pinned_percent)
    return Components(
        clock, meter, admitted, store, sources, coordinator, judge, revalidation, scrubber, judging, pinning, logs, web
    )


def _sources(basis: Basis) -> Sources:
    options, admitted, clock, meter = basis.settings.upstream, basis.admitted, basis.clock, basis.meter
    lookups = Lookups(options.resolver)
    resolver = VettedResolver(
        connect_to={host: parse_listen(address) for host, address in options.connect_to.items()},
        allowed_for=admitted.networks,
        ttl_s=options.dns_ttl_s,
        failure_ttl_s=NEGATIVE_S,
        lookup=lookups,
        on_close=lookups.close,
    )
    client = UpstreamClient(
        options=options,
        resolver=resolver,
        redirect=admitted.redirect,
        clock=clock,
        count=meter.upstream_request,
        user_agent=USER_AGENT,
    )
    health = SourceHealth()
    upstream = BackingOff(client, BackOff(most_s=options.retry_after_max_s), clock)
    slots = _slots(basis)
    asker = Asker(upstream=upstream, slots=slots, node_id=basis.node_id, health=health, clock=clock, meter=meter)
    anchors = build_anchors(
        basis.settings.trust,
        clock=clock,
        count=meter.anchor,
        user_agent=USER_AGENT,
        resolver=resolver,
        issued=Issued(basis.settings.store.volumes[0].path),
    )
    fetcher = MetadataFetcher(
        asker=asker,
        anchor=anchors,
        admit=admitted.target,
        meter=meter,
        clock=clock,
        negative_s=basis.settings.fill.negative_s,
    )
    return Sources(resolver, client, health, asker, anchors, fetcher)


def _body_buffer(basis: Basis) -> BodyBuffer:
    limit_bytes = basis.settings.fill.spool_bytes.bytes
    budget = MemoryBudget(TOTAL_FACTOR * limit_bytes, weight=basis.clients_at)
    basis.meter.set_memory_source(budget.rows)
    return BodyBuffer(limit_bytes=limit_bytes, budget=budget)


def _slots(basis: Basis) -> Slots:
    fill, piece_bytes = basis.settings.fill, basis.settings.store.piece_size.bytes
    limits = Limits(fill.per_origin, fill.total, piece_bytes=piece_bytes, span_pieces=fill.span_pieces)
    return Slots(limits, weight=basis.clients_at)


def _fills(basis: Basis, sources: Sources, buffer: BodyBuffer) -> tuple[Coordinator, Judge, Revalidation]:
    options = basis.settings.fill
    context = FillContext(basis.store, sources.asker, options, basis.meter)
    piece_size_bytes = basis.settings.store.piece_size.bytes
    opener = Opener(context, fetcher=sources.fetcher, piece_size_bytes=piece_size_bytes, buffer=buffer)
    coordinator = Coordinator(context, opener=opener, fetcher=sources.fetcher, clock=basis.clock)
    judge = Judge(
        store=basis.store,
        anchor=sources.anchors,
        recheck=coordinator.recheck,
        hold_timeout_s=options.hold_timeout_s,
        meter=basis.meter,
    )
    return (
        coordinator,
        judge,
        Revalidation(context, opener=opener, begin=coordinator.begin, remembered=coordinator.remembered),
    )


def _passing(basis: Basis, fetcher: MetadataFetcher, relay: Relay, buffer: BodyBuffer) -> Passing:
    options = basis.settings.fill
    metadata = PassMetadata(
        fetcher=fetcher, clock=basis.clock, piece_size_bytes=relay.piece_size_bytes, keep_s=options.pass_memory_s
    )
    return Passing(
        options=basis.settings.server,
        relay=relay,
        metadata=metadata,
        via=via_token(basis.node_id),
        buffer=buffer,
        first_byte_s=options.first_byte_s,
    )


def _scrubber(basis: Basis, load: Load) -> Scrubber:
    return Scrubber(
        store=basis.store,
        options=basis.settings.scrub,
        clock=basis.clock,
        load=load,
        count=basis.meter.scrubbed,
        piece_size_bytes=basis.settings.store.piece_size.bytes,
    )
