"""The table of metrics with names, labels and meanings.

Owns: names, types, label names and the closed sets of label values. Must not count. Tests compare the exposition, the
reference page and the names in dashboards and alerts with this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PREFIX: Final = "cacheserver_"
LEVELS: Final = ("at_rest", "self_consistent", "anchored")
RESULTS: Final = ("ok", "bad", "unreadable")
MANIFESTS: Final = ("anchored", "self_consistent", "absent", "refused", "contradicts", "timeout")
ANCHORS: Final = ("content_policy", "edge_cdp", "catalogue", "name", "digest_field")
ANCHOR_RESULTS: Final = ("claim", "silent", "timeout", "failed")
EVICTION_REASONS: Final = ("space", "purged", "superseded", "corrupt", "contradicted")


class MetricDoc(NamedTuple):
    """One metric: name in the text format, Prometheus type, label names, meaning."""

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def key(self) -> str:
        """The name without prefix."""
        return self.name.removeprefix(PREFIX)


def _doc(name: str, kind: str, labels: str, meaning: str) -> MetricDoc:
    return MetricDoc(PREFIX + name, kind, tuple(labels.split()), meaning)


CONNECTION_LIMITS: Final = ("client", "all", "idle")
"""Of one client, of all clients together; ``idle``: an idle connection ended for a new one."""

ANSWERS: Final = (
    _doc("requests_total", "counter", "service outcome code listener", "Answers by outcome and status class (2xx)."),
    _doc("response_bytes_total", "counter", "service outcome listener", "Body bytes sent to clients."),
    _doc("subnet_requests_total", "counter", "subnet outcome", "Answers by the client's subnet group."),
    _doc("subnet_response_bytes_total", "counter", "subnet outcome", "Body bytes by the client's subnet group."),
    _doc("request_duration_seconds", "histogram", "outcome", "Time from the request's head to the answer's last byte."),
    _doc("first_byte_seconds", "histogram", "outcome", "Time from the request's head to the answer's first byte."),
)
"""One cell per combination of labels; each answer counts once."""

EVENTS: Final = (
    _doc("refused_total", "counter", "reason", "Requests that the node refused, by error code."),
    _doc("connections_refused_total", "counter", "limit", "Connections refused, or idle ones ended, by limit."),
    _doc("upstream_requests_total", "counter", "service source result", "Requests: ok, not_modified or error code."),
    _doc("upstream_bytes_total", "counter", "service source", "Body bytes received from sources, by class of source."),
    _doc("collapsed_waiters_total", "counter", "", "Requests that waited for a fill of another request."),
    _doc("verified_pieces_total", "counter", "level result", "Verified pieces: at_rest, self_consistent or anchored."),
    _doc("content_refused_total", "counter", "reason", "Pieces and contents not let out, by reason of the decision."),
    _doc("manifests_total", "counter", "result", "Manifest look-ups: trust level, or why there is none."),
    _doc("anchor_answers_total", "counter", "anchor result", "Requests to anchors: claim, silent, timeout or failed."),
    _doc("scrubbed_bytes_total", "counter", "", "Stored bytes that the scrubber has read."),
    _doc("source_strikes_total", "counter", "", "Corrupt pieces that count against a source."),
    _doc("source_bans_total", "counter", "", "Bans of sources for corrupt pieces."),
    _doc("evictions_total", "counter", "volume reason", "Evictions and removals, by reason."),
    _doc(
        "evicted_bytes_total",
        "counter",
        "volume reason",
        "Bytes removed: space, purged, superseded, corrupt or contradicted.",
    ),
)
"""Each event counts once."""

STATES: Final = (
    _doc("hit_ratio_requests", "gauge", "", "Hit, stale and revalidated answers / all answers but refused."),
    _doc("hit_ratio_bytes", "gauge", "", "1 - upstream bytes / response bytes since the start, at least 0."),
    _doc("connections", "gauge", "", "Open client connections of the content listener."),
    _doc("restart_required", "gauge", "", "1 while a changed setting waits for a restart, else 0."),
    _doc("lane_answers_total", "counter", "", "Warm hits that the fast lane answered."),
    _doc("lane_passed_total", "counter", "", "Plain warm hits that missed the fast lane."),
    _doc("fills_in_flight", "gauge", "", "Running upstream requests of fills."),
    _doc("fill_readers", "gauge", "", "Running answers that read from fills."),
    _doc("body_memory_bytes", "gauge", "use", "Memory that holds bodies of answers, by use."),
    _doc("sources_banned", "gauge", "", "Sources that are banned now."),
    _doc("log_lines_dropped_total", "counter", "", "Log lines dropped because stderr or the file was too slow."),
    _doc("scrub_period_seconds", "gauge", "", "Period in which the scrubber reads every stored piece; 0: off."),
    _doc("certificate_not_after_timestamp_seconds", "gauge", "name", "Unix time at which a served certificate ends."),
    _doc("build_info", "gauge", "version python", "Always 1."),
)
"""Read at each exposition."""

STORE: Final = (
    _doc("store_bytes", "gauge", "volume", "Bytes stored."),
    _doc("store_reserved_bytes", "gauge", "volume", "Bytes reserved for fills and not yet stored."),
    _doc("store_capacity_bytes", "gauge", "volume", "Capacity of the volume in bytes."),
    _doc("store_objects", "gauge", "volume", "Objects in the catalogue."),
    _doc("store_online", "gauge", "volume", "1 while the volume is in use, 0 while it is offline."),
    _doc("store_writable", "gauge", "volume", "1 while the volume accepts new content, 0 while it is full or offline."),
    _doc(
        "store_errors_total",
        "counter",
        "volume",
        "Failed disk calls that tell of the drive, not of one file or of the process.",
    ),
    _doc(
        "store_eviction_age_seconds",
        "gauge",
        "volume",
        "Age of the content last evicted for space, since it was fetched or revalidated; 0: no eviction yet.",
    ),
    _doc("store_ghost_hits_total", "counter", "volume", "Units stored again that twice the capacity would have kept."),
    _doc("store_ghost_hit_bytes_total", "counter", "volume", "Bytes that twice the capacity would have saved."),
    _doc("pinned_objects", "gauge", "volume", "Pinned objects that the volume keeps."),
    _doc("pinned_bytes", "gauge", "volume", "Bytes of the pinned objects when they are complete."),
    _doc("quarantined_pieces", "gauge", "volume", "Copies of corrupt pieces in quarantine."),
    _doc("scrub_last_complete_timestamp_seconds", "gauge", "volume", "Unix time of the last complete scrub; 0: never."),
)
"""Per volume; read at each exposition."""

PROCESS: Final = (
    MetricDoc("process_virtual_memory_bytes", "gauge", (), "Virtual memory size in bytes."),
    MetricDoc("process_resident_memory_bytes", "gauge", (), "Resident memory size in bytes."),
    MetricDoc("process_start_time_seconds", "gauge", (), "Start time of the process since unix epoch in seconds."),
    MetricDoc("process_cpu_seconds_total", "counter", (), "Total user and system CPU time spent in seconds."),
    MetricDoc("process_open_fds", "gauge", (), "Number of open file descriptors."),
    MetricDoc("process_max_fds", "gauge", (), "Maximum number of open file descriptors."),
)
"""From the Prometheus client library, under the names that every exporter uses."""

METRICS: Final[tuple[MetricDoc, ...]] = (*ANSWERS, *EVENTS, *STATES, *STORE, *PROCESS)
