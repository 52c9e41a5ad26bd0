"""Cold content from an origin that is slow per connection: one client, many clients, and a range far inside.

A cache that asks for one piece after another waits for the origin's first byte again and again; one that fetches
pieces side by side is limited by the link. Every byte is compared with the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.content import MIB
from bench.fetch import Ask, faults, fetch, first_contact, whole
from bench.lab import AUTHORITY, CountingOrigin, Lab, OriginLimits
from bench.report import Bar, Table, at_most
from bench.servers import Kind, Running, running

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
    for kind in kinds:
        if not kind.caches:
            continue
        limits = OriginLimits(delay_ms=plan.delay_ms, connection_mbps=plan.connection_mbps)
        with lab.origin(limits) as origin, running(kind, lab, origin.port) as server:
            first_contact(server.port, AUTHORITY, lab.truth, suffix=server.suffix)
            rows += [_measure(lab, server, origin, label, plans) for label, plans in cases]
    return {
        "bench": "cold",
        "plan": asdict(plan),
        "rows": rows,
        "wrong": any(row["faults"] for row in rows),
        "tables": [asdict(_table(rows, plan))],
        "bars": [asdict(bar) for bar in _bars(rows, plan)],
    }


def _measure(
    lab: Lab, server: Running, origin: CountingOrigin, label: str, plans: Sequence[Sequence[Ask]]
) -> dict[str, Any]:
    records = fetch(server.port, AUTHORITY, plans, lab.truth, suffix=server.suffix, timeout_s=120)
    ask = plans[0][0]
    given = origin.record(ask.path)
    every = [got for client in records for got in client]
    return {
        "server": server.name,
        "case": label,
        "all_done_s": max(got.done_at for got in every) - min(got.sent_at for got in every),
        "first_byte_max_ms": max(got.body_at - got.sent_at for got in every) * 1000,
        "origin_ratio": given["body_bytes"] / ask.length_bytes,
        "origin_requests": given["requests"],
        "duplicate_bytes": given["duplicate_bytes"],
        "checked_bytes": sum(got.body_bytes for got in every),
        "faults": faults(records),
    }


def _bars(rows: Sequence[dict[str, Any]], plan: ColdPlan) -> list[Bar]:
    mine = [row for row in rows if row["server"] == "cacheserver"]
    if len(mine) != 3 or plan.object_bytes != FULL_OBJECT_BYTES:
        return []
    one, many, far = mine
    piece_ms = MIB * 8 / (plan.connection_mbps * 1e6) * 1000
    return [
        at_most("cold 100 MiB, 1 client, s", one["all_done_s"], 3.5),
        at_most(f"cold 100 MiB, {plan.clients} clients, s", many["all_done_s"], 3.6),
        at_most("cold: origin bytes / object", max(one["origin_ratio"], many["origin_ratio"]), 1.0),
        at_most("cold range far inside: first byte, ms", far["first_byte_max_ms"], plan.delay_ms + piece_ms),
        at_most("cold: answers with a fault", float(sum(len(row["faults"]) for row in mine)), 0.0),
    ]


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
