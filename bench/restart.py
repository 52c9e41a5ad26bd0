"""Restart of a full cache: how soon does the node serve, and what does it weigh?

Owns: the time from exec to the last byte of a stored object, memory after the whole index is known, memory per idle
connection. The stored cache comes from ``bench.populate``. Only the node is measured: no peer keeps such an index.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import process
from bench.content import MIB, object_path
from bench.fetch import Got, faults, fetch, whole
from bench.lab import AUTHORITY, Lab, OriginLimits
from bench.populate import REAL_LENGTH_BYTES, Populated, populate
from bench.report import Bar, Table, at_most
from bench.servers import NODE, Kind, Running, start_node

KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """How full the cache is and how many connections idle."""

    stored_objects: int = 1_000_000
    real_objects: int = 4_000
    idle_connections: int = 2_000
    starts: int = 3
    settle_s: float = 60.0


QUICK = RestartPlan(stored_objects=2_000, real_objects=50, idle_connections=100, starts=1, settle_s=5.0)


def run_restart(lab: Lab, kinds: Sequence[Kind], plan: RestartPlan) -> dict[str, Any]:
    """Measure the node, when it is among ``kinds``; plain data."""
    rows: list[dict[str, Any]] = []
    if any(kind.name == NODE.name for kind in kinds):
        began = time.monotonic()
        cache_dir = lab.directory("stored")
        filled = populate(cache_dir, lab.truth, stored=plan.stored_objects, real=plan.real_objects)
        populate_s = time.monotonic() - began
        with lab.origin(OriginLimits()) as origin:
            rows = [_measure(lab, origin.port, filled, plan, number) for number in range(plan.starts)]
            refetched = sorted(origin.records())
            per_connection_kib = _idle_connection_bytes(lab, origin.port, plan.idle_connections) / KIB
        for row in rows:
            row["populate_s"] = populate_s
            row["idle_connection_kib"] = per_connection_kib
            row["faults"] += [f"{path}: was stored, and yet fetched" for path in refetched]
    return {
        "bench": "restart",
        "plan": asdict(plan),
        "rows": rows,
        "wrong": any(row["faults"] for row in rows),
        "tables": [asdict(_table(rows, plan))],
        "bars": [asdict(bar) for bar in _bars(rows)],
    }


def _measure(lab: Lab, origin_port: int, filled: Populated, plan: RestartPlan, number: int) -> dict[str, Any]:
    # Seconds count from exec: nothing of the bench's own work lies between.
    began = time.monotonic()
    server = start_node(lab, origin_port, cache_dir=filled.cache_dir)
    try:
        listening_s = time.monotonic() - began
        first = _hits(lab, server, [filled.numbers[-1 - number]])
        first_hit_s = first[0].done_at - began
        early = process.memory(server.pids())
        whole_index_s = _whole_index(server, began, plan.settle_s)
        _wait_until_quiet(server, plan.settle_s)
        late = process.memory(server.pids())
        later = _hits(lab, server, filled.numbers[:: max(1, len(filled.numbers) // 20)])
    finally:
        process.stop(server.popen)
    return {
        "listening_s": listening_s,
        "first_hit_s": first_hit_s,
        "whole_index_s": whole_index_s,
        "rss_at_first_hit_mib": early.rss_bytes / MIB,
        "rss_with_index_mib": late.rss_bytes / MIB,
        "faults": faults([first, later]),
    }


def _hits(lab: Lab, server: Running, numbers: Sequence[int]) -> list[Got]:
    asks = [whole(number, REAL_LENGTH_BYTES) for number in numbers]
    return fetch(server.port, AUTHORITY, [asks], lab.truth, suffix=server.suffix)[0]


def _whole_index(server: Running, began: float, settle_s: float) -> float | None:
    """Seconds from exec until the node's status says that every volume is loaded; None when it never says so."""
    deadline = time.monotonic() + settle_s
    while time.monotonic() < deadline:
        volumes = _volumes(server)
        if not all("loaded" in volume for volume in volumes):
            return None
        if volumes and all(volume["loaded"] for volume in volumes):
            return time.monotonic() - began
        time.sleep(0.1)
    return None


def _volumes(server: Running) -> list[dict[str, Any]]:
    """The volumes in the status of the node's admin listener; empty where it has none."""
    if server.admin_port is None:
        return []
    connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=30)
    try:
        connection.request("GET", "/api/v1/status")
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())["volumes"]
    finally:
        connection.close()
    return found


def _wait_until_quiet(server: Running, settle_s: float) -> None:
    """Wait until the node has used less than 5 % of a core for a second: its start is over then."""
    deadline = time.monotonic() + settle_s
    used_s = process.cpu_seconds(server.pids())
    while time.monotonic() < deadline:
        time.sleep(1.0)
        before_s, used_s = used_s, process.cpu_seconds(server.pids())
        if used_s - before_s < 0.05:
            return


def _idle_connection_bytes(lab: Lab, origin_port: int, count: int) -> float:
    """Bytes of memory that one idle connection adds after it has had one answer.

    In a fresh node: in one that has just loaded an index, connections would live in what the loading left free.
    """
    server = start_node(lab, origin_port)
    path = object_path(0, REAL_LENGTH_BYTES)
    request = f"GET {path}{server.suffix} HTTP/1.1\r\nHost: {AUTHORITY}\r\nRange: bytes=0-1023\r\n\r\n".encode()
    idle: list[socket.socket] = []
    try:
        _hits(lab, server, [0, 0])
        before = process.memory(server.pids()).rss_bytes
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", server.port), 10)
            idle.append(sock)
            sock.sendall(request)
            if not sock.recv(65536):
                raise RuntimeError("the node closed a connection that had asked")
        return (process.memory(server.pids()).rss_bytes - before) / count
    finally:
        for sock in idle:
            sock.close()
        process.stop(server.popen)


def _bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    if not rows:
        return []
    worst = {
        name: max(row[name] for row in rows) for name in ("first_hit_s", "rss_with_index_mib", "idle_connection_kib")
    }
    return [
        at_most("restart: first hit after exec, s", worst["first_hit_s"], 1.0),
        at_most("restart: RSS with the whole index, MiB", worst["rss_with_index_mib"], 400.0),
        at_most("memory per idle connection, KiB", worst["idle_connection_kib"], 30.0),
    ]


def _table(rows: Sequence[dict[str, Any]], plan: RestartPlan) -> Table:
    heads = ("start", "listening", "first hit", "whole index", "RSS at first hit", "RSS later", "per idle connection")
    lines = tuple(
        (
            str(number),
            f"{row['listening_s']:.2f} s",
            f"{row['first_hit_s']:.2f} s",
            "–" if row["whole_index_s"] is None else f"{row['whole_index_s']:.1f} s",
            f"{row['rss_at_first_hit_mib']:.0f} MiB",
            f"{row['rss_with_index_mib']:.0f} MiB",
            f"{row['idle_connection_kib']:.1f} KiB",
        )
        for number, row in enumerate(rows, 1)
    )
    return Table(f"Restart with {plan.stored_objects:,} stored objects", heads, lines)
