"""Restart of a full cache: how soon does the node serve, and what does it weigh?

Owns: the time from exec to the last byte of a stored object, memory after the whole index is known, memory per idle
connection. The stored cache comes from ``bench.populate``. Only the node is measured: no peer keeps such an index.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import process
from bench.content import MIB, object_path
from bench.fetch import Got, faults, fetch, whole
from bench.lab import AUTHORITY, Lab, OriginLimits
from bench.node import start_node, status
from bench.populate import REAL_LENGTH_BYTES, Populated, populate
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind, Running

KIB = 1 << 10
SMALLEST_WEIGHED = 100_000


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
    if any(kind.name == NODE for kind in kinds):
        began = time.monotonic()
        cache_dir = lab.directory("stored")
        filled = populate(cache_dir, lab.truth, stored=plan.stored_objects, real=plan.real_objects)
        populate_s = time.monotonic() - began
        with lab.origin(OriginLimits()) as origin:
            rows = [_measure(lab, origin.port, filled, plan, number) for number in range(plan.starts)]
            refetched = sorted(origin.records())
            empty_mib, per_connection_kib = _fresh_node(lab, origin.port, plan.idle_connections)
        for row in rows:
            row["populate_s"] = populate_s
            row["idle_connection_kib"] = per_connection_kib
            row["bytes_per_object"] = (row["rss_with_index_mib"] - empty_mib) * MIB / plan.stored_objects
            row["faults"] += [f"{path}: was stored, and yet fetched" for path in refetched]
    return outcome("restart", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows, plan)))


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
    return fetch(server.port, AUTHORITY, [asks], lab.truth)[0]


def _whole_index(server: Running, began: float, settle_s: float) -> float | None:
    """Seconds from exec until the node's status says that every volume is loaded; None when it never says so."""
    deadline = time.monotonic() + settle_s
    while time.monotonic() < deadline:
        volumes = status(server)["volumes"] if server.admin_port is not None else []
        if not all("loaded" in volume for volume in volumes):
            return None
        if volumes and all(volume["loaded"] for volume in volumes):
            return time.monotonic() - began
        time.sleep(0.1)
    return None


def _wait_until_quiet(server: Running, settle_s: float) -> None:
    """Wait until the node has used less than 5 % of a core for a second: its start is over then."""
    deadline = time.monotonic() + settle_s
    used_s = process.cpu_seconds(server.pids())
    while time.monotonic() < deadline:
        time.sleep(1.0)
        before_s, used_s = used_s, process.cpu_seconds(server.pids())
        if used_s - before_s < 0.05:
            return


def _fresh_node(lab: Lab, origin_port: int, count: int) -> tuple[float, float]:
    """RSS in MiB of an empty node, and KiB that one idle connection adds after it has had one answer.

    In a fresh node: in one that has just loaded an index, connections would live in what the loading left free.
    """
    server = start_node(lab, origin_port)
    path = object_path(0, REAL_LENGTH_BYTES)
    request = f"GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\nRange: bytes=0-1023\r\n\r\n".encode()
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
        return before / MIB, (process.memory(server.pids()).rss_bytes - before) / count / KIB
    finally:
        for sock in idle:
            sock.close()
        process.stop(server.popen)


def _measures(rows: Sequence[dict[str, Any]], plan: RestartPlan) -> list[Row]:
    if not rows:
        return []
    name = f"{plan.stored_objects:,} objects"
    found = []
    for key, what, unit, bar in (
        ("first_hit_s", f"{name}: first hit after exec", "s", 1.0),
        ("whole_index_s", f"{name}: whole index", "s", 10.0),
        ("bytes_per_object", f"{name}: memory per object", "B", 250.0),
        ("rss_with_index_mib", f"{name}: RSS with the whole index", "MiB", 400.0),
        ("idle_connection_kib", "memory per idle connection", "KiB", 30.0),
    ):
        values = [row[key] for row in rows if row[key] is not None]
        # A few thousand rows weigh less than the noise of one process's memory.
        small = key == "bytes_per_object" and plan.stored_objects < SMALLEST_WEIGHED
        note = "too few objects to weigh" if small else "the node never said that it was loaded"
        worst = max(values) if len(values) == len(rows) and not small else None
        text = "" if worst is None else f"{worst:.3g} {unit}"
        found.append(at_most(what, worst, bar, unit=unit, mine=text, note=note if worst is None else ""))
    return found


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
