"""The table of metrics: what exists, with which labels, and what it means.

Owns: names, types, label names and the closed sets that label values come from. Counts nothing. The exposition, the
reference page and the names in dashboards and alerts are tested against it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PREFIX: Final = "cacheserver_"
LEVELS: Final = ("at_rest", "self_consistent", "anchored")
RESULTS: Final = ("ok", "bad", "unreadable")
MANIFESTS: Final = ("anchored", "self_consistent", "absent", "refused", "contradicts", "timeout")
ANCHORS: Final = ("content_policy", "edge_cdp", "catalogue", "name", "digest_field")
ANCHOR_RESULTS: Final = ("claim", "silent", "timeout", "failed")
EVICTION_REASONS: Final = ("space", "purged", "superseded", "corrupt")


class MetricDoc(NamedTuple):
    """One metric: name in the text format, Prometheus type, label names, meaning."""

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str


def _doc(name: str, kind: str, labels: str, meaning: str) -> MetricDoc:
    return MetricDoc(PREFIX + name, kind, tuple(labels.split()), meaning)


ANSWERS: Final = (
    _doc("requests_total", "counter", "service outcome code listener", "Answers by outcome and status class (2xx)."),
    _doc("response_bytes_total", "counter", "service outcome listener", "Body bytes that reached client sockets."),
    _doc("subnet_requests_total", "counter", "subnet outcome", "Answers by the client's subnet group."),
    _doc("subnet_response_bytes_total", "counter", "subnet outcome", "Body bytes by the client's subnet group."),
    _doc("request_duration_seconds", "histogram", "outcome", "From the request's head to the answer's last byte."),
    _doc("first_byte_seconds", "histogram", "outcome", "From the request's head to the answer's first byte."),
)
"""Counted per answer, in cells."""

EVENTS: Final = (
    _doc("refused_total", "counter", "reason", "Requests refused by the node itself, by error code."),
    _doc("connections_refused_total", "counter", "", "Connections closed at once because there were too many."),
    _doc(
        "upstream_requests_total",
        "counter",
        "service source result",
        "Upstream answers by class of source: ok, not_modified, or error code.",
    ),
    _doc("upstream_bytes_total", "counter", "service source", "Body bytes received, by class of source."),
    _doc("collapsed_waiters_total", "counter", "", "Requests that waited for a fill which another one had started."),
    _doc("verified_pieces_total", "counter", "level result", "Pieces checked: at_rest, self_consistent or anchored."),
    _doc("manifests_total", "counter", "result", "Looks for a manifest: trust level found, or why there is none."),
    _doc("anchor_answers_total", "counter", "anchor result", "Questions to anchors: claim, silent, or why none came."),
    _doc("scrubbed_bytes_total", "counter", "", "Stored bytes that the scrubber has read again."),
    _doc("source_strikes_total", "counter", "", "Bad pieces that were blamed on a source."),
    _doc("source_bans_total", "counter", "", "Sources banned for bad pieces."),
    _doc("evictions_total", "counter", "volume reason", "Times that space was given back."),
    _doc("evicted_bytes_total", "counter", "volume reason", "Bytes given back: space, purged, superseded or corrupt."),
)
"""Counted one by one."""

STATES: Final = (
    _doc("hit_ratio_requests", "gauge", "", "Hits, stale and revalidated ones among all answers but refused ones."),
    _doc("hit_ratio_bytes", "gauge", "", "1 - upstream bytes / response bytes since the start, at least 0."),
    _doc("connections", "gauge", "", "Client connections open on the content listener."),
    _doc("lane_answers_total", "counter", "", "Warm hits that the fast lane answered."),
    _doc("lane_passed_total", "counter", "", "Plain warm hits that missed the fast lane."),
    _doc("fills_in_flight", "gauge", "", "Upstream fill requests running now."),
    _doc("fill_readers", "gauge", "", "Answers that are being fed by fills now."),
    _doc("sources_banned", "gauge", "", "Sources that are not asked now, for bad pieces."),
    _doc("log_lines_dropped_total", "counter", "", "Lines of the logs that stderr or the file did not take in time."),
    _doc("scrub_period_seconds", "gauge", "", "Time in which every stored piece is to be read again; 0: off."),
    _doc(
        "certificate_not_after_timestamp_seconds",
        "gauge",
        "name",
        "Unix time at which the certificate that TLS listeners serve ends, by file name.",
    ),
    _doc("build_info", "gauge", "version python", "Always 1."),
)
"""Asked for at each exposition."""

STORE: Final = (
    _doc("store_bytes", "gauge", "volume", "Bytes stored."),
    _doc("store_reserved_bytes", "gauge", "volume", "Bytes promised to fills that have not come yet."),
    _doc("store_capacity_bytes", "gauge", "volume", "Most bytes that the volume may hold."),
    _doc("store_objects", "gauge", "volume", "Objects in the catalogue."),
    _doc("store_online", "gauge", "volume", "1 while the volume is in use, 0 while it is offline."),
    _doc("store_writable", "gauge", "volume", "1 while the volume takes new bytes, 0 while it is full or offline."),
    _doc("store_errors_total", "counter", "volume", "Disk calls that failed."),
    _doc(
        "store_eviction_age_seconds",
        "gauge",
        "volume",
        "Age of what was last evicted for space, since it was fetched or last found unchanged; 0: nothing yet.",
    ),
    _doc("store_ghost_hits_total", "counter", "volume", "Units stored again that twice the capacity would have kept."),
    _doc("store_ghost_hit_bytes_total", "counter", "volume", "Their bytes: what twice the capacity would have saved."),
    _doc("pinned_objects", "gauge", "volume", "Pinned objects that the volume keeps."),
    _doc("pinned_bytes", "gauge", "volume", "Bytes that they take when they are complete."),
    _doc("quarantined_pieces", "gauge", "volume", "Copies of bad pieces in quarantine."),
    _doc(
        "scrub_last_complete_timestamp_seconds",
        "gauge",
        "volume",
        "Unix time at which every stored piece had been read again; 0: never.",
    ),
)
"""Per volume, asked for at each exposition."""

PROCESS: Final = (
    MetricDoc("process_virtual_memory_bytes", "gauge", (), "Virtual memory size in bytes."),
    MetricDoc("process_resident_memory_bytes", "gauge", (), "Resident memory size in bytes."),
    MetricDoc("process_start_time_seconds", "gauge", (), "Start time of the process since unix epoch in seconds."),
    MetricDoc("process_cpu_seconds_total", "counter", (), "Total user and system CPU time spent in seconds."),
    MetricDoc("process_open_fds", "gauge", (), "Number of open file descriptors."),
    MetricDoc("process_max_fds", "gauge", (), "Maximum number of open file descriptors."),
)
"""As the Prometheus client library gives them, under the names that every exporter uses."""

METRICS: Final[tuple[MetricDoc, ...]] = (*ANSWERS, *EVENTS, *STATES, *STORE, *PROCESS)
