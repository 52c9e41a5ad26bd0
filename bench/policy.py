"""The eviction policy on a synthetic trace beside LRU and Belady's optimum: a simulation with ``core/eviction`` alone.

The trace and the simulations are ``bench.eviction_trace``'s; this states them as rows of the one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.eviction_trace import CAPACITY_SHARES, TARGET_POINTS, compare, make_trace
from bench.lab import Lab
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_least, stated
from bench.servers import NODE, Kind

_BELADY = "furthest next use, whole objects, the newcomer may be refused"
_SPLIT = "furthest next use, each byte a unit: the exact optimum, above any policy of whole objects"


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """How long the trace is, and the capacities as shares of the bytes that are asked for more than once."""

    requests: int = 200_000
    capacity_shares: tuple[float, ...] = CAPACITY_SHARES


QUICK = PolicyPlan(requests=20_000, capacity_shares=(0.05,))


def run_policy(_lab: Lab, kinds: Sequence[Kind], plan: PolicyPlan) -> dict[str, Any]:
    """Simulate every capacity; plain data. Nothing where the node is not among ``kinds``."""
    rows = []
    if any(kind.name == NODE for kind in kinds):
        trace, working_set_bytes = make_trace(plan.requests, scan=True)
        for share in plan.capacity_shares:
            rows.append({"capacity_share": share} | compare(trace, int(working_set_bytes * share)))
    return outcome("policy", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows)))


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    if not rows:
        return []
    worst = min(rows, key=lambda row: row["lead_over_lru_points"])
    found = [
        at_least(
            "eviction, Zipf 0.9 with a scan: byte hit ratio beyond LRU",
            worst["lead_over_lru_points"],
            TARGET_POINTS,
            unit="points",
            mine=f"{worst['s3fifo']:.1f} %",
            peer=f"LRU {worst['lru']:.1f} %, at {worst['capacity_share']:.0%} of the working set",
        )
    ]
    for key, note in (("belady", _BELADY), ("belady_split", _SPLIT)):
        far = max(rows, key=lambda row: row[key] - row["s3fifo"])
        texts = {"mine": f"{far['s3fifo']:.1f} %", "peer": f"Belady {far[key]:.1f} %", "note": note}
        name = f"eviction: gap to Belady's optimum{'' if key == 'belady' else ', objects split'}"
        found.append(stated(name, far[key] - far["s3fifo"], unit="points", **texts))
    return found


def _table(rows: Sequence[dict[str, Any]], plan: PolicyPlan) -> Table:
    heads = ("capacity / working set", "this node", "LRU", "Belady", "Belady, split", "beyond LRU")
    names = ("s3fifo", "lru", "belady", "belady_split")
    lines = tuple(
        (
            f"{row['capacity_share']:.0%}",
            *(f"{row[name]:.1f} %" for name in names),
            f"{row['lead_over_lru_points']:+.1f} points",
        )
        for row in rows
    )
    return Table(f"Byte hit ratio, Zipf 0.9 with a scan, {plan.requests:,} requests", heads, lines)
