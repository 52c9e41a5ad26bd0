"""One cold piece, many clients at once: how long after the origin's first byte does the last waiter see it?

The origin notes the moment of its first body byte, the clients theirs; both read the same clock of this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cold_servers import ask_cold, each_cold, of_server, peers_text
from bench.content import MIB
from bench.fetch import Ask
from bench.lab import CountingOrigin, Lab, OriginLimits
from bench.load import percentile
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind, Running


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
    limits = OriginLimits(delay_ms=plan.delay_ms, total_mbps=plan.link_mbps)
    rows = [_measure(lab, server, origin, plan) for server, origin in each_cold(lab, kinds, limits)]
    return outcome("waiters", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows, plan)))


def _measure(lab: Lab, server: Running, origin: CountingOrigin, plan: WaitersPlan) -> dict[str, Any]:
    asks = [Ask(number, plan.object_bytes, 0, plan.piece_bytes) for number in range(plan.rounds)]
    rounds = [ask_cold(lab, server, origin, [[ask]] * plan.clients)[0] for ask in asks]
    beyond = sorted(time_ms for each in rounds for time_ms in each["beyond_ms"])
    return {
        "server": server.name,
        "beyond_p50_ms": percentile(beyond, 0.5),
        "beyond_p99_ms": percentile(beyond, 0.99),
        "beyond_max_ms": max(beyond, default=0.0),
        "origin_requests_per_round": sum(each["origin_requests"] for each in rounds) / plan.rounds,
        "faults": [fault for each in rounds for fault in each["faults"]],
    }


def _measures(rows: Sequence[dict[str, Any]], plan: WaitersPlan) -> list[Row]:
    name = f"cold piece, {plan.clients} clients: waiter's first byte p99 beyond the origin's"
    key = "beyond_p99_ms"
    return [
        at_most(
            name, row[key], 30.0, unit="ms", aim=10.0, mine=f"{row[key]:.1f} ms", peer=peers_text(rows, NODE, key, "ms")
        )
        for row in of_server(rows, NODE)
    ]


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
