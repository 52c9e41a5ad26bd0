"""Cold content from an origin that is slow per connection: one client, many clients, and a range far inside.

A cache that asks for one piece after another waits for the origin's first byte again and again; one that fetches
pieces side by side is limited by the link. Every byte is compared with the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cold_servers import ask_cold, each_cold, of_server, peers_text
from bench.content import MIB
from bench.fetch import Ask, whole
from bench.lab import Lab, OriginLimits
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind

FULL_OBJECT_BYTES = 100 * MIB


@dataclass(frozen=True, slots=True)
class ColdPlan:
    """The object and the origin's slowness."""

    object_bytes: int = FULL_OBJECT_BYTES
    delay_ms: float = 50.0
    connection_mbps: float = 100.0
    clients: int = 20


QUICK = ColdPlan(object_bytes=10 * MIB, clients=4)


def run_cold(lab: Lab, kinds: Sequence[Kind], plan: ColdPlan) -> dict[str, Any]:
    """Measure the three cases on every kind that caches, each object cold; plain data."""
    rows = []
    far = plan.object_bytes // 10 * 9 // MIB * MIB
    cases = (
        ("1 client", [[whole(0, plan.object_bytes)]]),
        (f"{plan.clients} clients", [[whole(1, plan.object_bytes)] for _ in range(plan.clients)]),
        (f"range at {far // MIB} MiB", [[Ask(2, plan.object_bytes, far, far + MIB)]]),
    )
    limits = OriginLimits(delay_ms=plan.delay_ms, connection_mbps=plan.connection_mbps)
    for server, origin in each_cold(lab, kinds, limits):
        rows += [{"case": label} | ask_cold(lab, server, origin, plans)[0] for label, plans in cases]
    return outcome("cold", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows, plan)))


def _measures(rows: Sequence[dict[str, Any]], plan: ColdPlan) -> list[Row]:
    mine = of_server(rows, NODE)
    if len(mine) != 3:
        return []
    mib = plan.object_bytes // MIB
    piece_ms = MIB * 8 / (plan.connection_mbps * 1e6) * 1000
    # The bars in seconds are those of 100 MiB; a smaller object states its times.
    bars_s = (3.5, 3.6) if plan.object_bytes == FULL_OBJECT_BYTES else (None, None)
    found = []
    for row, bar_s in zip(mine, bars_s, strict=False):
        same = [other for other in rows if other["case"] == row["case"]]
        more: dict[str, Any] = {"mine": f"{row['all_done_s']:.2f} s", "peer": peers_text(same, NODE, "all_done_s", "s")}
        found.append(Row(f"cold {mib} MiB, {row['case']}, all done", row["all_done_s"], "s", "≤", bar_s, **more))
    ratio = max(row["origin_ratio"] for row in mine[:2])
    both = [other for other in rows if other["case"] == mine[1]["case"]]
    texts = {"mine": f"{ratio:.3f} ×", "peer": peers_text(both, NODE, "origin_ratio", "×")}
    found.append(at_most(f"cold {mib} MiB: origin bytes / object", ratio, 1.0, unit="×", **texts))
    far, same = mine[2], [other for other in rows if other["case"] == mine[2]["case"]]
    first_ms = far["first_byte_max_ms"]
    texts = {"mine": f"{first_ms:.0f} ms", "peer": peers_text(same, NODE, "first_byte_max_ms", "ms")}
    bar_ms = plan.delay_ms + piece_ms
    return [*found, at_most(f"cold {mib} MiB, {far['case']}: first byte", first_ms, bar_ms, unit="ms", **texts)]


def _table(rows: Sequence[dict[str, Any]], plan: ColdPlan) -> Table:
    heads = ("case", "server", "all done", "first byte", "origin bytes", "origin requests", "faults")
    labels = list(dict.fromkeys(row["case"] for row in rows))
    lines = tuple(
        (
            row["case"],
            row["server"],
            f"{row['all_done_s']:.2f} s",
            f"{row['first_byte_max_ms']:.0f} ms",
            f"{row['origin_ratio']:.3f} ×",
            str(row["origin_requests"]),
            str(len(row["faults"])),
        )
        for row in sorted(rows, key=lambda row: labels.index(row["case"]))
    )
    title = f"Cold {plan.object_bytes // MIB} MiB: origin {plan.delay_ms:.0f} ms to the first byte"
    return Table(f"{title}, {plan.connection_mbps:.0f} Mbit/s per connection", heads, lines)
