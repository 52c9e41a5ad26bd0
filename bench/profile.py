"""Where the microseconds of a warm hit go: each room's own time, on the fast lane and on the full path.

A node with a stopwatch on its steps (``bench.profiled_node``) says how the time inside divides; the same load on a node
without it, in turns, says what a hit costs in all, in CPU of the process tree. What no step accounts for is the event
loop, taking requests in, and the kernel's work outside of the steps; below zero it says that the machine was busy. The
calls into the kernel are counted where strace is there.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import hits, process
from bench.lab import ROOT, Lab
from bench.load import LoadResult, run_load
from bench.nginx import start_file_origin
from bench.node import start_node
from bench.profiled_node import FILE_VARIABLE, ROOMS
from bench.report import Table, outcome
from bench.rows import Row, as_facts, stated
from bench.servers import NODE, Kind, Running, find_program

WAYS = LANE, FULL = "fast lane", "full path"
REST = "event loop, taking requests in, the rest"
_RARE = 0.05
"""A room that fewer answers enter than this share is not on their way."""
_CASES = (hits.CASES[0], hits.CASES[2])


@dataclass(frozen=True, slots=True)
class ProfilePlan(hits.HitsPlan):
    """How long each case is measured, with the stopwatch and without; ``runs`` times without it."""

    objects: int = 2
    runs: int = 3
    seconds: float = 3.0


QUICK = ProfilePlan(objects=1, runs=1, seconds=0.3, warmup_s=0.1)


def run_profile(lab: Lab, kinds: Sequence[Kind], plan: ProfilePlan) -> dict[str, Any]:
    """Measure the node, when it is among ``kinds``; plain data."""
    rows: list[dict[str, Any]] = []
    if any(kind.name == NODE for kind in kinds):
        targets = lab.write_objects(plan.objects, plan.object_bytes)
        origin = start_file_origin(lab)
        for way in WAYS:
            rows += [_measure(lab, origin.port, targets, plan, way, case) for case in _CASES]
    tables = [_table(rows), _calls_table(rows)] if rows else []
    return outcome("profile", plan, rows, tables=tables, measures=as_facts(_measures(rows)))


def _measure(
    lab: Lab, origin_port: int, targets: Sequence[str], plan: ProfilePlan, way: str, case: hits.Case
) -> dict[str, Any]:
    facts = lab.directory("profile") / "facts.json"
    plain: list[LoadResult] = []
    watched: list[LoadResult] = []
    with _node(lab, origin_port, way, None) as server, _node(lab, origin_port, way, facts) as observed:
        for each in (server, observed):
            hits.warm(lab, each, plan)
        for run in range(plan.runs):  # in turns, so that a change of the machine meets both
            for each, results in ((server, plain), (observed, watched)):
                results.append(run_load(hits.job(lab, each, targets, case, plan, seed=plan.seed + run)))
        brief = replace(plan, seconds=min(plan.seconds, 1.0))
        calls = _system_calls(server, lambda: run_load(hits.job(lab, server, targets, case, brief, seed=plan.seed)))
    seen = json.loads(facts.read_text())
    answers = max(1, seen["answers"])
    return {
        "way": way,
        "case": case.label,
        "cpu_us": _cpu_us(plain),
        "watched_us": _cpu_us(watched),
        "rooms_us": {room: seconds / answers * 1e6 for room, (seconds, _calls) in seen["rooms"].items()},
        "entered": {room: calls / answers for room, (_seconds, calls) in seen["rooms"].items()},
        "answers": seen["answers"],
        "system_calls": calls,
        "faults": [run.first_fault for run in (*plain, *watched) if run.errors],
    }


def _cpu_us(runs: Sequence[LoadResult]) -> float:
    """CPU of the server per request."""
    return sum(run.server_cpu_s for run in runs) / max(1, sum(run.requests for run in runs)) * 1e6


@contextlib.contextmanager
def _node(lab: Lab, origin_port: int, way: str, facts: Path | None) -> Iterator[Running]:
    """A node on the server's core, with the stopwatch when there is a file for what it finds."""
    settings = {"server": {"fast_lane": way == LANE}}
    if facts is None:
        server = start_node(lab, origin_port, settings=settings)
    else:
        env = {FILE_VARIABLE: str(facts)}
        server = start_node(lab, origin_port, settings=settings, module="bench.profiled_node", env=env)
    try:
        yield server
    finally:
        process.stop(server.popen)


def _system_calls(server: Running, load: Any) -> dict[str, float]:
    """Calls into the kernel per request, the most frequent first; empty where strace is missing or not allowed."""
    program = find_program("strace")
    if program is None:
        return {}
    argv = [program, "-f", "-c", "-p", str(server.popen.pid)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=ROOT) as tracer:
        try:
            assert tracer.stderr is not None
            if "attached" not in tracer.stderr.readline():
                return {}
            result: LoadResult = load()
        finally:
            tracer.send_signal(signal.SIGINT)
            _out, text = tracer.communicate(timeout=30)
    # The warm-up is traced too, but its requests are not in the result: shares of the frequent calls stay right.
    counted = dict(_counted(text))
    answered = max(counted.get("recvfrom", 0), counted.get("read", 0), result.requests, 1)
    return {name: count / answered for name, count in sorted(counted.items(), key=lambda item: -item[1])[:8]}


def _counted(text: str) -> Iterator[tuple[str, int]]:
    """Name and count of each line of strace's summary."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[0].replace(".", "").isdigit() and fields[-1] != "total":
            yield fields[-1], int(fields[3])


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    found = []
    for case in _CASES:
        lane, full = (_of(rows, way, case.label) for way in (LANE, FULL))
        if lane is not None and full is not None:
            texts = {"mine": f"{lane['cpu_us']:.1f} µs", "peer": f"{FULL} {full['cpu_us']:.1f} µs"}
            found.append(stated(f"CPU of a warm {case.label} hit, {LANE}", lane["cpu_us"], unit="µs", **texts))
    return found


def _of(rows: Sequence[dict[str, Any]], way: str, case: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["way"] == way and row["case"] == case), None)


def _heads(rows: Sequence[dict[str, Any]], first: str) -> tuple[str, ...]:
    return (first, *(f"{row['case']}, {row['way']}" for row in rows))


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    lines = [
        (
            room,
            *(f"{row['rooms_us'].get(room, 0.0):.1f}" if row["entered"].get(room, 0) > _RARE else "–" for row in rows),
        )
        for room in ROOMS
    ]
    rest = (f"{row['cpu_us'] - sum(row['rooms_us'].values()):.1f}" for row in rows)
    lines += [(REST, *rest), ("**all, CPU µs of one hit**", *(f"**{row['cpu_us']:.1f}**" for row in rows))]
    return Table("Where the microseconds of a warm hit go", _heads(rows, "component"), tuple(lines))


def _calls_table(rows: Sequence[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row["system_calls"]))
    lines = [(name, *(f"{row['system_calls'].get(name, 0.0):.2f}" for row in rows)) for name in names]
    title = "Calls into the kernel per warm hit" + ("" if names else ": strace is missing or may not look")
    return Table(title, _heads(rows, "call"), tuple(lines))
