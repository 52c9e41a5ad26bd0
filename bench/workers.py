"""Two worker processes beside one: CPU per gigabyte over the whole process tree, and how evenly requests spread.

Nothing is pinned here: servers and client share all cores, so that a rate says little and CPU seconds say what counts.
A node that has no workers, or does not list them in its status, is reported as such.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import hits
from bench.lab import Lab
from bench.load import LoadResult, run_load
from bench.nginx import start_file_origin, static_kind
from bench.node import node_kind, status
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_least, at_most, stated
from bench.servers import NODE, STATIC, Kind, Running, running

WORKERS = 2
_CASE = hits.CASES[2]
_CPU = "two workers: CPU seconds per GB / one worker's"
_SHARE = "two workers: the lesser one's share of requests"
_RATE = "two workers: rate / one worker's"


@dataclass(frozen=True, slots=True)
class WorkersPlan(hits.HitsPlan):
    """Many connections: each goes to one worker, by chance."""

    connections: int = 128


QUICK = WorkersPlan(connections=32, objects=2, runs=1, seconds=0.3, warmup_s=0.05)


@dataclass(frozen=True, slots=True)
class _Setup:
    """One server with a number of workers, and what was measured of it."""

    server: Running
    workers: int
    results: list[LoadResult]
    served: dict[int, int]
    """Requests that each worker of the node has answered in all runs, by process id."""


def run_workers(lab: Lab, kinds: Sequence[Kind], plan: WorkersPlan) -> dict[str, Any]:
    """Measure the node and nginx with one worker and with two, in turns; plain data."""
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    makers = {
        NODE: lambda count: node_kind({"server": {"workers": count}} if count > 1 else None, pinned=False),
        STATIC: lambda count: static_kind(workers=count, pinned=False),
    }
    reasons: dict[str, str] = {}
    setups: list[_Setup] = []
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            for workers in (1, WORKERS) if kind.name in makers else ():
                try:
                    server = stack.enter_context(running(makers[kind.name](workers), lab, origin.port))
                except RuntimeError as error:
                    reasons[kind.name] = f"not supported: {str(error).splitlines()[-1].rpartition('.toml:')[2]}"
                    continue
                if kind.name == NODE and workers > 1 and not _listed(server):
                    reasons[NODE] = "not supported: the node's status lists no workers"
                    continue
                hits.warm(lab, server, plan)
                setups.append(_Setup(server, workers, [], {}))
        for run in range(plan.runs):
            for setup in setups:
                _measure(lab, setup, targets, plan, seed=plan.seed + run)
    rows = [_row(setup) for setup in setups]
    more = {"measures": as_facts(_measures(rows, reasons)), "not_supported": reasons}
    return outcome("workers", plan, rows, tables=[_table(rows, plan)], **more)


def _measure(lab: Lab, setup: _Setup, targets: Sequence[str], plan: WorkersPlan, *, seed: int) -> None:
    pinned = hits.job(lab, setup.server, targets, _CASE, plan, seed=seed)
    counts = setup.server.name == NODE and setup.workers > 1
    before = _requests(setup.server, setup.workers) if counts else {}
    setup.results.append(run_load(replace(pinned, cores=tuple(lab.cores), server_core=None)))
    after = _requests(setup.server, setup.workers) if counts else {}
    for pid, requests in after.items():
        setup.served[pid] = setup.served.get(pid, 0) + requests - before.get(pid, 0)


def _listed(server: Running) -> list[dict[str, Any]]:
    """The workers in the node's status; empty where it has none."""
    found: list[dict[str, Any]] = status(server).get("workers", [])
    return found


def _requests(server: Running, workers: int) -> dict[int, int]:
    """Requests so far of each process that serves clients: the workers, with the owner where it is one of them."""
    entries = _listed(server)
    alone = [entry for entry in entries if entry["role"] == "worker"]
    return {entry["pid"]: entry["requests"] for entry in (alone if len(alone) >= workers else entries)}


def _row(setup: _Setup) -> dict[str, Any]:
    results = setup.results
    total = sum(setup.served.values())
    return {
        "server": setup.server.name,
        "workers": setup.workers,
        "bytes_per_s": statistics.median(result.bytes_per_s for result in results),
        "cpu_s_per_gb": sum(result.server_cpu_s for result in results)
        / max(sum(result.body_bytes for result in results) / 1e9, 1e-9),
        "served": setup.served,
        "least_share": min(setup.served.values()) / total if total else None,
        "faults": [result.first_fault for result in results if result.errors],
    }


def _measures(rows: Sequence[dict[str, Any]], reasons: dict[str, str]) -> list[Row]:
    one, two = (_of(rows, NODE, workers) for workers in (1, WORKERS))
    if one is None or two is None:
        note = reasons.get(NODE, f"{NODE} was left out")
        return [at_most(_CPU, None, 1.15, unit="×", note=note), at_least(_SHARE, None, 35.0, unit="%", note=note)]
    share = two["least_share"]
    texts = {"mine": "" if share is None else ", ".join(f"{count:,}" for count in two["served"].values())}
    return [
        at_most(_CPU, two["cpu_s_per_gb"] / one["cpu_s_per_gb"], 1.15, unit="×", **_texts(rows, "cpu_s_per_gb", 1)),
        at_least(_SHARE, None if share is None else share * 100, 35.0, unit="%", **texts),
        stated(_RATE, two["bytes_per_s"] / one["bytes_per_s"], **_texts(rows, "bytes_per_s", 1e9), note="cores shared"),
    ]


def _texts(rows: Sequence[dict[str, Any]], key: str, unit: float) -> dict[str, str]:
    """Both columns: one worker's figure and two workers'."""
    word = "s/GB" if unit == 1 else "GB/s"
    texts = {}
    for name in (NODE, STATIC):
        pair = [_of(rows, name, workers) for workers in (1, WORKERS)]
        texts[name] = " → ".join("–" if row is None else f"{row[key] / unit:.3g}" for row in pair) + f" {word}"
    return {"mine": texts[NODE], "peer": f"{STATIC} {texts[STATIC]}"}


def _of(rows: Sequence[dict[str, Any]], server: str, workers: int) -> dict[str, Any] | None:
    return next((row for row in rows if row["server"] == server and row["workers"] == workers), None)


def _table(rows: Sequence[dict[str, Any]], plan: WorkersPlan) -> Table:
    lines = tuple(
        (
            row["server"],
            str(row["workers"]),
            f"{row['bytes_per_s'] / 1e9:.2f} GB/s",
            f"{row['cpu_s_per_gb']:.3f}",
            "" if row["least_share"] is None else f"{row['least_share']:.0%}",
        )
        for row in rows
    )
    title = f"Workers: 1 MiB ranges, {plan.connections} connections, nothing pinned, {plan.runs} runs in turns"
    return Table(title, ("server", "workers", "rate", "CPU s/GB", "least share of requests"), lines)
