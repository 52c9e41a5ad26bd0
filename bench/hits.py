"""Warm hits: rates, first-byte latency, CPU and memory of every server for the same random ranges.

All servers are up and warm at once, idle ones cost nothing; runs alternate between them, so that a change of the
machine during the bench meets all of them. A ratio is the median of the ratios inside each round.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench import process
from bench.check import Verdict, check_sample
from bench.content import MIB
from bench.fetch import faults, fetch, whole
from bench.lab import AUTHORITY, Lab
from bench.load import CLIENT_BOUND, LoadJob, LoadResult, run_load
from bench.report import Bar, Table, at_least, at_most
from bench.servers import Kind, Running, running, start_file_origin

KIB = 1 << 10
STATIC, SLICE, NODE = "nginx-static", "nginx-slice", "cacheserver"


@dataclass(frozen=True, slots=True)
class Case:
    """One size of answer; ``range_bytes`` 0: whole objects."""

    label: str
    range_bytes: int
    by_requests: bool
    """Whether servers are compared by requests per second rather than by bytes."""


CASES = (
    Case("4 KiB", 4 * KIB, True),
    Case("64 KiB", 64 * KIB, True),
    Case("1 MiB", MIB, False),
    Case("10 MiB", 10 * MIB, False),
    Case("whole", 0, False),
)


@dataclass(frozen=True, slots=True)
class HitsPlan:
    """How much is measured."""

    object_bytes: int = 100 * MIB
    objects: int = 4
    connections: int = 16
    runs: int = 5
    seconds: float = 1.5
    warmup_s: float = 0.3
    sample: int = 24
    cases: tuple[Case, ...] = CASES
    tls: bool = False
    seed: int = 1


def quick(plan: HitsPlan) -> HitsPlan:
    """A plan of a few seconds that shows that everything works; its figures mean little."""
    return replace(plan, objects=2, runs=2, seconds=0.2, warmup_s=0.05, sample=4)


def run_hits(lab: Lab, kinds: Sequence[Kind], plan: HitsPlan) -> dict[str, Any]:
    """Measure all cases on all kinds; the result as plain data with ``tables`` and ``bars``."""
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(kind, lab, origin.port)) for kind in kinds]
        servers = [server for server in servers if not plan.tls or server.tls_port is not None]
        for server in servers:
            warm(lab, server, plan)
        rows = [row for case in plan.cases for row in _measure_case(lab, servers, targets, case, plan)]
        for row in rows:
            row["ratios"] = _ratios(row, rows)
        memory = {server.name: asdict(process.memory(server.pids())) for server in servers}
    process.stop(origin.popen)
    return {
        "bench": "hits-tls" if plan.tls else "hits",
        "plan": asdict(plan),
        "rows": rows,
        "memory": memory,
        "wrong": any(row["wrong_bodies"] or row["errors"] for row in rows),
        "tables": [asdict(_table(rows, memory, plan))],
        "bars": [asdict(bar) for bar in (_tls_bars(rows) if plan.tls else _bars(rows))],
    }


def warm(lab: Lab, server: Running, plan: HitsPlan) -> None:
    """Read every object twice, whole, and compare all bytes; RuntimeError when the server gives wrong ones."""
    for _ in range(2):
        asks = [whole(number, plan.object_bytes) for number in range(plan.objects)]
        found = faults(fetch(server.port, AUTHORITY, [asks], lab.truth, suffix=server.suffix))
        if found:
            raise RuntimeError(f"{server.name} gives wrong answers while warming: {found[0]}")


def _measure_case(
    lab: Lab, servers: Sequence[Running], targets: Sequence[str], case: Case, plan: HitsPlan
) -> list[dict[str, Any]]:
    results: dict[str, list[LoadResult]] = {server.name: [] for server in servers}
    for run in range(plan.runs):
        # Each round starts with another server: whatever follows from the order meets each in turn.
        turn = run % len(servers) if servers else 0
        for server in [*servers[turn:], *servers[:turn]]:
            results[server.name].append(run_load(_job(lab, server, targets, case, plan, seed=plan.seed + run)))
    return [_row(case, server, results[server.name], _check(lab, server, targets, case, plan)) for server in servers]


def _job(lab: Lab, server: Running, targets: Sequence[str], case: Case, plan: HitsPlan, *, seed: int) -> LoadJob:
    return LoadJob(
        port=(server.tls_port or 0) if plan.tls else server.port,
        authority=AUTHORITY,
        targets=tuple(target + server.suffix for target in targets),
        object_bytes=plan.object_bytes,
        range_bytes=case.range_bytes,
        connections=plan.connections,
        seconds=plan.seconds,
        warmup_s=plan.warmup_s,
        seed=seed,
        tls=plan.tls,
        core=lab.client_core,
        server_core=lab.server_core,
        server_pids=tuple(server.pids()),
    )


def _check(lab: Lab, server: Running, targets: Sequence[str], case: Case, plan: HitsPlan) -> Verdict:
    return check_sample(
        (server.tls_port or 0) if plan.tls else server.port,
        AUTHORITY,
        [target + server.suffix for target in targets],
        lab.truth,
        range_bytes=case.range_bytes,
        sample=plan.sample if case.range_bytes and case.range_bytes <= MIB else max(1, plan.sample // 8),
        seed=plan.seed,
        tls=plan.tls,
    )


def _row(case: Case, server: Running, runs: Sequence[LoadResult], verdict: Verdict) -> dict[str, Any]:
    rates = [run.requests_per_s if case.by_requests else run.bytes_per_s for run in runs]
    middle = statistics.median(rates)
    client_share = statistics.median(run.client_share for run in runs)
    return {
        "case": case.label,
        "server": server.name,
        "rate": middle,
        "unit": "requests/s" if case.by_requests else "bytes/s",
        "spread": (max(rates) - min(rates)) / middle if middle else 0.0,
        "rates": rates,
        "requests_per_s": statistics.median(run.requests_per_s for run in runs),
        "bytes_per_s": statistics.median(run.bytes_per_s for run in runs),
        "first_byte_p50_ms": _median_ms(run.first_byte_p50_s for run in runs),
        "first_byte_p99_ms": _median_ms(run.first_byte_p99_s for run in runs),
        "cpu_s_per_gb": sum(run.server_cpu_s for run in runs) / max(sum(run.body_bytes for run in runs) / 1e9, 1e-9),
        "cpu_us_per_request": sum(run.server_cpu_s for run in runs) / max(sum(run.requests for run in runs), 1) * 1e6,
        "server_share": statistics.median(run.server_share for run in runs),
        "client_share": client_share,
        "client_bound": client_share > CLIENT_BOUND,
        "foreign_share": statistics.median(
            max(0.0, run.server_core_busy_s - run.server_cpu_s) / run.wall_s for run in runs
        ),
        "errors": sum(run.errors for run in runs),
        "first_fault": next((run.first_fault for run in runs if run.first_fault), ""),
        "checked_bodies": verdict.bodies,
        "wrong_bodies": list(verdict.faults),
    }


def _median_ms(times_s: Iterable[float | None]) -> float | None:
    known = [time_s * 1000 for time_s in times_s if time_s is not None]
    return statistics.median(known) if known else None


def _shown(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.2f}"


def _ratios(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median over the rounds of this row's rate to each other server's of the same round."""
    ratios = {}
    for other in rows:
        if other["case"] == row["case"] and other["server"] != row["server"] and all(other["rates"]):
            pairs = zip(row["rates"], other["rates"], strict=True)
            ratios[other["server"]] = statistics.median(mine / theirs for mine, theirs in pairs)
    return ratios


def _find(rows: Sequence[dict[str, Any]], case: str, server: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["case"] == case and row["server"] == server), None)


def _bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    bars = []
    for row in rows:
        if row["server"] != NODE:
            continue
        case, ratios = row["case"], row["ratios"]
        if case in ("4 KiB", "64 KiB"):
            static, deployed = ((0.8, 1.5), (0.9, 50.0))[case == "64 KiB"]
            bars.append(at_least(f"{case} vs {STATIC}", ratios.get(STATIC), static, client_bound=row["client_bound"]))
            bars.append(at_least(f"{case} vs {SLICE}", ratios.get(SLICE), deployed))
        else:
            faster = min((ratios[name] for name in (STATIC, SLICE) if name in ratios), default=None)
            bars.append(at_least(f"{case} vs the faster nginx", faster, 1.2 if case == "1 MiB" else 1.0))
        peer = _find(rows, case, SLICE)
        if case == "10 MiB" and peer is not None:
            mine, theirs = row["first_byte_p99_ms"], peer["first_byte_p99_ms"]
            p99 = mine / theirs if mine and theirs else None
            bars.append(at_most(f"first-byte p99 at 10 MiB vs {SLICE}", p99, 1.0))
    return bars


def _tls_bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    row = _find(rows, "1 MiB", NODE)
    return [at_least(f"TLS 1 MiB vs {STATIC}", None if row is None else row["ratios"].get(STATIC), 0.6)]


def _table(rows: Sequence[dict[str, Any]], memory: dict[str, dict[str, int]], plan: HitsPlan) -> Table:
    heads = ("size", "server", "rate", "spread", "vs static", "vs slice", "p50 ms", "p99 ms", "CPU s/GB", "RSS MiB", "")
    lines = []
    for row in rows:
        rate = f"{row['rate'] / 1e3:.1f} k/s" if row["unit"] == "requests/s" else f"{row['rate'] / 1e9:.2f} GB/s"
        ratios = [_shown(row["ratios"].get(name)) for name in (STATIC, SLICE)]
        remarks = "client is the brake; " if row["client_bound"] else ""
        remarks += f"{row['errors']} errors; " if row["errors"] else ""
        remarks += f"{len(row['wrong_bodies'])} WRONG BODIES" if row["wrong_bodies"] else ""
        rss = memory[row["server"]]["rss_bytes"] / MIB
        figures = [_shown(row[name]) for name in ("first_byte_p50_ms", "first_byte_p99_ms", "cpu_s_per_gb")]
        lines.append(
            (row["case"], row["server"], rate, f"{row['spread']:.0%}", *ratios, *figures, f"{rss:.0f}", remarks)
        )
    title = f"Warm hits{' over TLS' if plan.tls else ''}: {plan.connections} connections, {plan.runs} alternating runs"
    return Table(f"{title} of {plan.seconds} s", heads, tuple(lines))
