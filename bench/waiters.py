"""One cold piece, many clients at once: how long after the origin's first byte does the last waiter see it?

The origin notes the moment of its first body byte, the clients theirs; both read the same clock of this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.content import MIB
from bench.fetch import Ask, Got, faults, fetch, first_contact
from bench.lab import AUTHORITY, CountingOrigin, Lab, OriginLimits
from bench.load import percentile
from bench.report import Table, at_most
from bench.servers import Kind, Running, running


@dataclass(frozen=True, slots=True)
class WaitersPlan:
    """How many clients wait for how many cold pieces, one piece after another."""

    clients: int = 50
    rounds: int = 12
    object_bytes: int = 8 * MIB
    piece_bytes: int = MIB
    delay_ms: float = 50.0
    link_mbps: float = 100.0


QUICK = WaitersPlan(clients=10, rounds=2)


def run_waiters(lab: Lab, kinds: Sequence[Kind], plan: WaitersPlan) -> dict[str, Any]:
    """Measure every kind that caches; plain data."""
    rows = []
    for kind in kinds:
        if not kind.caches:
            continue
        limits = OriginLimits(delay_ms=plan.delay_ms, total_mbps=plan.link_mbps)
        with lab.origin(limits) as origin, running(kind, lab, origin.port) as server:
            first_contact(server.port, AUTHORITY, lab.truth, suffix=server.suffix)
            rows.append(_measure(lab, server, origin, plan))
    mine = next((row["beyond_p99_ms"] for row in rows if row["server"] == "cacheserver"), None)
    bars = [] if mine is None else [at_most("waiter's first byte p99 beyond the origin's, ms", mine, 30.0)]
    return {
        "bench": "waiters",
        "plan": asdict(plan),
        "rows": rows,
        "wrong": any(row["faults"] for row in rows),
        "tables": [asdict(_table(rows, plan))],
        "bars": [asdict(bar) for bar in bars],
    }


def _measure(lab: Lab, server: Running, origin: CountingOrigin, plan: WaitersPlan) -> dict[str, Any]:
    beyond: list[float] = []
    records: list[list[Got]] = []
    requests = 0
    for number in range(plan.rounds):
        ask = Ask(number, plan.object_bytes, 0, plan.piece_bytes)
        answers = fetch(server.port, AUTHORITY, [[ask]] * plan.clients, lab.truth, suffix=server.suffix)
        given = origin.record(ask.path)
        requests += given["requests"]
        beyond += [got.body_at - given["first_byte_at"] for client in answers for got in client if not got.fault]
        records += answers
    beyond.sort()
    return {
        "server": server.name,
        "beyond_p50_ms": percentile(beyond, 0.5) * 1000,
        "beyond_p99_ms": percentile(beyond, 0.99) * 1000,
        "beyond_max_ms": max(beyond, default=0.0) * 1000,
        "origin_requests_per_round": requests / plan.rounds,
        "faults": faults(records),
    }


def _table(rows: Sequence[dict[str, Any]], plan: WaitersPlan) -> Table:
    heads = ("server", "p50", "p99", "max", "origin requests per piece", "faults")
    lines = tuple(
        (
            row["server"],
            f"{row['beyond_p50_ms']:.1f} ms",
            f"{row['beyond_p99_ms']:.1f} ms",
            f"{row['beyond_max_ms']:.1f} ms",
            f"{row['origin_requests_per_round']:.1f}",
            str(len(row["faults"])),
        )
        for row in rows
    )
    return Table(f"Waiters' first byte beyond the origin's: {plan.clients} clients, one cold 1 MiB piece", heads, lines)
