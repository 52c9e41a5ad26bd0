"""What the admin listener shows of a running node: health, status, overview, the store's gauges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import cacheserver
from cacheserver.core.errors import kind_of
from cacheserver.core.request.recent_refusals import Refused
from cacheserver.metrics.collectors import VolumeGauges
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.metrics.traffic import traffic
from cacheserver.node.wiring import Components
from cacheserver.store.volume import Volume
from cacheserver.tls.current import CurrentCertificate

_FILLS_SHOWN = 50


class NodeStatus:
    """Reads the components; changes nothing."""

    def __init__(
        self, parts: Components, certificate: CurrentCertificate, needs_restart: Callable[[], tuple[str, ...]]
    ) -> None:
        self._parts = parts
        self._needs_restart = needs_restart
        self._certificate = certificate
        self._started_s = parts.clock.monotonic_s()

    def not_ready(self) -> list[str]:
        """Why the node cannot do its work; empty where it can."""
        return self._parts.web.answerer.not_ready()

    def status(self) -> dict[str, Any]:
        """The body of ``/api/v1/status``."""
        parts, now_s = self._parts, self._parts.clock.monotonic_s()
        return {
            "version": cacheserver.__version__,
            "uptime_s": round(now_s - self._started_s, 1),
            "draining": parts.web.answerer.draining,
            "needs_restart": list(self._needs_restart()),
            "connections": self.connections(),
            "fills": parts.coordinator.fills_in_flight,
            "tasks": len(asyncio.all_tasks()),
            "banned_sources": [
                {"source": ban.source, "seconds_left": round(ban.seconds_left)}
                for ban in parts.sources.health.bans(now_s)
            ],
            "catalogues": [
                {"file": each.path, "issued": each.document.issued, "expires": each.document.expires}
                | {"refused": each.refused or None}
                for each in parts.sources.anchors.catalogues
            ],
            "content_refused": parts.meter.content_refusals(),
            "pins": parts.pinning.summary(),
            "services": sorted(service.name for service in parts.admitted.services()),
            "certificate": self._certificate.status(),
            "volumes": [_volume(volume) for volume in parts.store.volumes],
        }

    def overview(self) -> dict[str, Any]:
        """The body of ``/api/v1/overview``: what the status page shows. ``clock_s`` is the time since the start."""
        parts, reasons = self._parts, self.not_ready()
        fills, objects = parts.coordinator.snapshots(_FILLS_SHOWN)
        return {
            "time_s": round(parts.clock.wall_s(), 3),
            "clock_s": round(parts.clock.monotonic_s() - self._started_s, 3),
            "ready": not reasons,
            "reasons": reasons,
            "node": self.status(),
            "traffic": traffic(parts.meter.tally),
            "fills": {"objects": objects, "shown": [asdict(fill) for fill in fills]},
            "refusals": [_refusal(refused) for refused in parts.web.refusals.recent()],
        }

    def connections(self) -> int:
        """Client connections."""
        return self._parts.web.listener.connection_count

    def show_in(self, meter: PrometheusMeter) -> None:
        """Give ``/metrics`` what it asks for at each exposition, in its thread."""
        parts = self._parts
        meter.set_state_source("connections", self.connections)
        meter.set_state_source("restart_required", lambda: bool(self._needs_restart()))
        lanes = parts.web.listener.lanes
        meter.set_state_source("lane_answers_total", lambda: lanes.answers)
        meter.set_state_source("lane_passed_total", lambda: lanes.passed)
        meter.set_state_source("fill_readers", lambda: parts.coordinator.reader_count)
        meter.set_state_source("sources_banned", lambda: len(parts.sources.health.bans(parts.clock.monotonic_s())))
        meter.set_state_source("log_lines_dropped_total", lambda: parts.logs.dropped)
        meter.set_state_source("scrub_period_seconds", lambda: parts.scrubber.period_s)
        meter.set_store_source(lambda: [self._gauges(volume) for volume in parts.store.volumes])

    def _gauges(self, volume: Volume) -> VolumeGauges:
        pinned_objects, pinned_bytes = self._parts.pinning.space.on_volume(volume)
        return VolumeGauges(
            volume=volume.path,
            store_bytes=volume.ledger.stored_bytes,
            store_capacity_bytes=volume.ledger.capacity_bytes,
            store_objects=volume.object_count,
            store_online=volume.well,
            quarantined_pieces=volume.quarantine.count,
            scrub_last_complete_timestamp_seconds=self._parts.scrubber.completed_s(volume),
            store_reserved_bytes=volume.ledger.reserved_bytes,
            store_writable=volume.takes_content,
            store_errors_total=volume.error_count,
            store_eviction_age_seconds=volume.eviction_age_s,
            store_ghost_hits_total=volume.policy.ghost_hits,
            store_ghost_hit_bytes_total=volume.policy.ghost_hit_bytes,
            pinned_objects=pinned_objects,
            pinned_bytes=pinned_bytes,
        )


def _refusal(refused: Refused) -> dict[str, Any]:
    kind = kind_of(refused.reason)
    return asdict(refused) | {"label": kind.label or refused.reason, "remedy": asdict(kind.advice(refused.host))}


def _volume(volume: Volume) -> dict[str, Any]:
    return {
        "path": volume.path,
        "stored_bytes": volume.ledger.stored_bytes,
        "reserved_bytes": volume.ledger.reserved_bytes,
        "capacity_bytes": volume.ledger.capacity_bytes,
        "objects": volume.object_count,
        "online": volume.well,
        "writable": volume.takes_content,
        "errors": volume.error_count,
        "loaded": volume.loaded.is_set(),
        "reconciled": volume.reconciled,
    }
