"""A cold disk under load: many readers of ranges that are not in memory, and what a warm hit waits meanwhile.

Every range is dropped from the page cache and proved to be absent from it at the moment at which it is asked for
(``bench.cold_reader``); how much the node then read from the disk is stated as well. Only the object files of the
bench are dropped, never the cache of the whole machine. Only the node is measured: it alone says where an object lies.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import hits, process
from bench.cold_reader import ColdJob
from bench.content import MIB
from bench.lab import AUTHORITY, ROOT, Lab
from bench.load import run_load
from bench.nginx import start_file_origin
from bench.populate import object_id_of
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind, Running, running

_CASE = hits.CASES[0]
_LEAST_COLD_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class ColdDiskPlan(hits.HitsPlan):
    """Readers of cold ranges over ``objects`` less one; the one more is warm, and asked by ``connections`` clients."""

    objects: int = 9
    connections: int = 1
    runs: int = 3
    seconds: float = 3.0
    readers: int = 64
    range_bytes: int = MIB


QUICK = ColdDiskPlan(objects=3, object_bytes=8 * MIB, runs=1, seconds=0.3, warmup_s=0.05, readers=8)


def run_cold_disk(lab: Lab, kinds: Sequence[Kind], plan: ColdDiskPlan) -> dict[str, Any]:
    """Measure the node, when it is among ``kinds``; plain data."""
    rows = []
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    for kind in (kind for kind in kinds if kind.name == NODE):
        with running(kind, lab, origin.port) as server:
            hits.warm(lab, server, plan)
            rows = [_measure(lab, server, targets, plan, plan.seed + run) for run in range(plan.runs)]
    return outcome("cold-disk", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows, plan)))


def _measure(lab: Lab, server: Running, targets: Sequence[str], plan: ColdDiskPlan, seed: int) -> dict[str, Any]:
    warm = hits.job(lab, server, targets[:1], _CASE, plan, seed=seed)
    alone = run_load(warm)
    read_before = _disk_bytes(server)
    with _cold_readers(lab, server, targets[1:], plan, seed) as readers:
        beside = run_load(warm)
        cold = _ended(readers)
    asked = cold["proved_cold"] + cold["warm"]
    return {
        "p50_alone_ms": _ms(alone.first_byte_p50_s),
        "p99_alone_ms": _ms(alone.first_byte_p99_s),
        "p50_ms": _ms(beside.first_byte_p50_s),
        "p99_ms": _ms(beside.first_byte_p99_s),
        "hits": beside.requests,
        "cold_requests": cold["requests"],
        "cold_mib_per_s": cold["body_bytes"] / MIB / plan_seconds(plan),
        "cold_share": cold["proved_cold"] / max(1, asked),
        "disk_read_per_cold_byte": (_disk_bytes(server) - read_before) / max(1, cold["body_bytes"]),
        "faults": [each for each in (alone.first_fault, beside.first_fault, cold["first_fault"]) if each],
    }


def plan_seconds(plan: ColdDiskPlan) -> float:
    """How long the readers read: before, during and after the run of the warm client, whose process takes a moment."""
    return plan.seconds + plan.warmup_s + 1.0


@contextlib.contextmanager
def _cold_readers(
    lab: Lab, server: Running, targets: Sequence[str], plan: ColdDiskPlan, seed: int
) -> Iterator[subprocess.Popen[str]]:
    """Readers that have begun, in a process of their own, until the end of the block."""
    job = ColdJob(
        port=server.port,
        authority=AUTHORITY,
        targets=tuple(targets),
        files=tuple(str(_file_of(server, target)) for target in targets),
        object_bytes=plan.object_bytes,
        range_bytes=plan.range_bytes,
        readers=plan.readers,
        seconds=plan_seconds(plan),
        stream=str(lab.stream),
        core=lab.client_core,
        seed=seed,
    )
    argv = [sys.executable, "-m", "bench.cold_reader"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as readers:
        try:
            assert readers.stdin is not None
            assert readers.stdout is not None
            readers.stdin.write(json.dumps(asdict(job)))
            readers.stdin.close()
            if readers.stdout.readline() != "begun\n":
                raise RuntimeError("the readers of cold ranges did not begin")
            yield readers
        finally:
            if readers.poll() is None:
                readers.terminate()


def _ended(readers: subprocess.Popen[str]) -> dict[str, Any]:
    """What the readers found, at their own end."""
    assert readers.stdout is not None
    found: dict[str, Any] = json.loads(readers.stdout.read())
    return found


def _file_of(server: Running, target: str) -> Path:
    """The file in which the node keeps an object's bytes, at their own offsets."""
    assert server.store is not None
    object_id = object_id_of(target)
    return server.store / "objects" / object_id[:2] / object_id


def _disk_bytes(server: Running) -> int:
    """Bytes that the server's processes have had read from a disk so far."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            total += process.io_counters(pid)["read_bytes"]
    return total


def _ms(time_s: float | None) -> float:
    return (time_s or 0.0) * 1000


def _measures(rows: Sequence[dict[str, Any]], plan: ColdDiskPlan) -> list[Row]:
    if not rows:
        return []
    worst = max(rows, key=lambda row: row["p99_ms"])
    cold = min(row["cold_share"] for row in rows)
    proved = cold >= _LEAST_COLD_SHARE
    rate = f"{worst['cold_mib_per_s']:.0f} MiB/s cold, {cold:.0%} proved"
    return [
        at_most(
            f"cold disk, {plan.readers} readers of cold ranges: warm 4 KiB hit's p99",
            worst["p99_ms"] if proved else None,
            5.0,
            unit="ms",
            mine=f"{worst['p99_ms']:.2f} ms (alone {worst['p99_alone_ms']:.2f}), {rate}",
            note="" if proved else f"only {cold:.0%} of the ranges were cold: this file system keeps its pages",
        )
    ]


def _table(rows: Sequence[dict[str, Any]], plan: ColdDiskPlan) -> Table:
    heads = ("warm p99 alone", "warm p99 beside", "warm p50 beside", "cold", "proved cold", "read from disk", "faults")
    lines = tuple(
        (
            f"{row['p99_alone_ms']:.2f} ms",
            f"{row['p99_ms']:.2f} ms",
            f"{row['p50_ms']:.2f} ms",
            f"{row['cold_mib_per_s']:.0f} MiB/s",
            f"{row['cold_share']:.0%}",
            f"{row['disk_read_per_cold_byte']:.2f} ×",
            str(len(row["faults"])),
        )
        for row in rows
    )
    title = f"Cold disk: {plan.readers} readers of cold 1 MiB ranges, one client of warm 4 KiB ranges"
    return Table(title, heads, lines)
