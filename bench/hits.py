"""Warm hits: rates, first-byte latency, CPU and memory of every server for the same random ranges.

All servers are up and warm at once, idle ones cost nothing; runs alternate between them, so that a change of the
machine during the bench meets all of them. A ratio is the median of the ratios inside each round.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import process
from bench.check import Verdict, check_sample
from bench.content import MIB
from bench.fetch import faults, fetch, whole
from bench.hits_rows import measures, table
from bench.lab import AUTHORITY, Lab
from bench.load import CLIENT_BOUND, LoadJob, LoadResult, run_load
from bench.nginx import start_file_origin
from bench.report import outcome
from bench.rows import as_facts
from bench.servers import NODE, Kind, Running, running

KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Case:
    """One size of answer; ``range_bytes`` 0: whole objects."""

    label: str
    range_bytes: int
    by_requests: bool
    """Whether servers are compared by requests per second rather than by bytes."""
    cipher: str = ""
    """The one suite of TLS 1.3 to use; empty: no TLS."""

    @property
    def tls(self) -> bool:
        """Whether the TLS listener is asked."""
        return bool(self.cipher)


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
    seed: int = 1


QUICK = HitsPlan(objects=2, runs=2, seconds=0.2, warmup_s=0.05, sample=4)
"""A few seconds that show that everything works; their figures mean little."""


def run_hits(lab: Lab, kinds: Sequence[Kind], plan: HitsPlan) -> dict[str, Any]:
    """Measure all cases on all kinds; the result as plain data with ``tables`` and ``bars``."""
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(kind, lab, origin.port)) for kind in kinds]
        for server in servers:
            warm(lab, server, plan)
        failed: dict[str, dict[str, str]] = {}
        rows = []
        for case in plan.cases:
            found, failed[case.label] = _measure_case(lab, servers, targets, case, plan)
            rows += found
        for row in rows:
            row["ratios"] = _ratios(row, rows)
        memory = {server.name: asdict(process.memory(server.pids())) for server in servers}
    process.stop(origin.popen)
    wrong = any(row["wrong_bodies"] or row["errors"] for row in rows)
    more = {"memory": memory, "wrong": wrong, "failed": failed, "measures": as_facts(measures(rows, failed))}
    return outcome("hits", plan, rows, tables=[table(rows, memory, title(plan))], **more)


def title(plan: HitsPlan) -> str:
    """What the tables of such a plan are about."""
    return f"Warm hits: {plan.connections} connections, {plan.runs} alternating runs of {plan.seconds} s"


def warm(lab: Lab, server: Running, plan: HitsPlan) -> None:
    """Read every object twice, whole, and compare all bytes; RuntimeError when the server gives wrong ones."""
    for _ in range(2):
        asks = [whole(number, plan.object_bytes) for number in range(plan.objects)]
        found = faults(fetch(server.port, AUTHORITY, [asks], lab.truth))
        if found:
            raise RuntimeError(f"{server.name} gives wrong answers while warming: {found[0]}")


def _measure_case(
    lab: Lab, servers: Sequence[Running], targets: Sequence[str], case: Case, plan: HitsPlan
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows of one case, and by peer why it failed last: a failure costs its own round, all of them its row.

    RuntimeError when the node itself fails.
    """
    results: dict[str, list[LoadResult | None]] = {server.name: [] for server in servers}
    failed: dict[str, str] = {}
    for run in range(plan.runs):
        # Each round starts with another server: whatever follows from the order meets each in turn.
        turn = run % len(servers) if servers else 0
        for server in [*servers[turn:], *servers[:turn]]:
            try:
                result = run_load(job(lab, server, targets, case, plan, seed=plan.seed + run))
            except RuntimeError as error:
                result = None
                _note(failed, server, f"{case.label}, run {run + 1}: {error}")
            results[server.name].append(result)
    rows = []
    for server in servers:
        if any(results[server.name]):
            try:
                rows.append(_row(case, server, results[server.name], _check(lab, server, targets, case, plan)))
            except (OSError, http.client.HTTPException) as error:
                _note(failed, server, f"{case.label}, looking at its bytes: {error!r}")
    return rows, failed


def _note(failed: dict[str, str], server: Running, why: str) -> None:
    """Note why a peer failed; RuntimeError for the node, without which there is nothing to compare."""
    failed[server.name] = f"{server.name}, {why}"
    if server.name == NODE:
        raise RuntimeError(failed[NODE])


def job(lab: Lab, server: Running, targets: Sequence[str], case: Case, plan: HitsPlan, *, seed: int) -> LoadJob:
    """One run of one case against one server, pinned."""
    return LoadJob(
        port=_port(server, case),
        authority=AUTHORITY,
        targets=tuple(targets),
        object_bytes=plan.object_bytes,
        range_bytes=case.range_bytes,
        connections=plan.connections,
        seconds=plan.seconds,
        warmup_s=plan.warmup_s,
        seed=seed,
        tls=case.tls,
        cipher=case.cipher,
        stream=str(lab.stream),
        cores=(lab.client_core,),
        server_core=lab.server_core,
        server_pids=tuple(server.pids()),
    )


def p99_ms(lab: Lab, server: Running, targets: Sequence[str], case: Case, plan: HitsPlan) -> float:
    """Time to the first byte that 99 of 100 answers keep: the median of all runs of one case."""
    runs = [run_load(job(lab, server, targets, case, plan, seed=plan.seed + run)) for run in range(plan.runs)]
    return statistics.median((run.first_byte_p99_s or 0.0) * 1000 for run in runs)


def _port(server: Running, case: Case) -> int:
    if not case.tls:
        return server.port
    if server.tls_port is None:
        raise RuntimeError(f"{server.name} has no TLS listener")
    return server.tls_port


def _check(lab: Lab, server: Running, targets: Sequence[str], case: Case, plan: HitsPlan) -> Verdict:
    return check_sample(
        _port(server, case),
        AUTHORITY,
        targets,
        lab.truth,
        range_bytes=case.range_bytes,
        sample=plan.sample if case.range_bytes and case.range_bytes <= MIB else max(1, plan.sample // 8),
        seed=plan.seed,
        tls=case.tls,
    )


def _row(case: Case, server: Running, rounds: Sequence[LoadResult | None], verdict: Verdict) -> dict[str, Any]:
    runs = [run for run in rounds if run is not None]
    rates = [None if run is None else run.requests_per_s if case.by_requests else run.bytes_per_s for run in rounds]
    known = [rate for rate in rates if rate is not None]
    middle = statistics.median(known)
    client_share = statistics.median(run.client_share for run in runs)
    return {
        "case": case.label,
        "server": server.name,
        "rate": middle,
        "unit": "requests/s" if case.by_requests else "bytes/s",
        "spread": (max(known) - min(known)) / middle if middle else 0.0,
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
        "connections": sum(run.connections for run in runs),
        "cipher": runs[0].cipher,
        "checked_bodies": verdict.bodies + sum(run.first_answers_checked for run in runs),
        "wrong_bodies": list(verdict.faults),
    }


def _median_ms(times_s: Iterable[float | None]) -> float | None:
    known = [time_s * 1000 for time_s in times_s if time_s is not None]
    return statistics.median(known) if known else None


def _ratios(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median of this row's rate to each other server's of the same round, over the rounds that both have."""
    ratios = {}
    for other in rows:
        if other["case"] == row["case"] and other["server"] != row["server"]:
            pairs = zip(row["rates"], other["rates"], strict=True)
            common = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
            if common:
                ratios[other["server"]] = statistics.median(common)
    return ratios
