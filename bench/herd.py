"""Many clients, one cold object, a narrow link: does each byte cross the link once, and does nobody wait for nothing?

Three orders of asking: the whole object in one request, its pieces in sequence, its pieces in an order of each
client's own. Every byte that any client gets is compared with the truth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.content import MIB
from bench.fetch import Ask, Got, faults, fetch, first_contact, pieces, whole
from bench.lab import AUTHORITY, CountingOrigin, Lab, OriginLimits
from bench.load import percentile
from bench.report import Bar, Table, at_least, at_most
from bench.servers import Kind, Running, running

ORDERS = ("whole", "sequential", "random")


@dataclass(frozen=True, slots=True)
class HerdPlan:
    """How many clients, how much, over which link."""

    clients: int = 20
    object_bytes: int = 50 * MIB
    link_mbps: float = 100.0
    delay_ms: float = 0.0
    seed: int = 1


QUICK = HerdPlan(clients=6, object_bytes=4 * MIB)


def run_herd(lab: Lab, kinds: Sequence[Kind], plan: HerdPlan) -> dict[str, Any]:
    """Measure every order on every kind that caches, each from an empty cache; plain data."""
    rows = []
    for kind in kinds:
        if not kind.caches:
            continue
        limits = OriginLimits(delay_ms=plan.delay_ms, total_mbps=plan.link_mbps)
        with lab.origin(limits) as origin, running(kind, lab, origin.port) as server:
            first_contact(server.port, AUTHORITY, lab.truth, suffix=server.suffix)
            rows += [_measure(lab, server, origin, number, order, plan) for number, order in enumerate(ORDERS)]
    return {
        "bench": "herd",
        "plan": asdict(plan),
        "rows": rows,
        "wrong": any(row["faults"] for row in rows),
        "tables": [asdict(_table(rows, plan))],
        "bars": [asdict(bar) for row in rows if row["server"] == "cacheserver" for bar in _bars(row)],
    }


def plans_of(order: str, number: int, plan: HerdPlan) -> list[list[Ask]]:
    """What each client asks, one after another."""
    if order == "whole":
        return [[whole(number, plan.object_bytes)] for _ in range(plan.clients)]
    plans = [pieces(number, plan.object_bytes, MIB) for _ in range(plan.clients)]
    if order == "random":
        for client, asks in enumerate(plans):
            random.Random(plan.seed * 1000 + client).shuffle(asks)
    return plans


def _measure(
    lab: Lab, server: Running, origin: CountingOrigin, number: int, order: str, plan: HerdPlan
) -> dict[str, Any]:
    plans = plans_of(order, number, plan)
    records = fetch(server.port, AUTHORITY, plans, lab.truth, suffix=server.suffix, timeout_s=180)
    given = origin.record(plans[0][0].path)
    every = [got for client in records for got in client]
    began = min(got.sent_at for got in every)
    link_s = plan.object_bytes * 8 / (plan.link_mbps * 1e6)
    last_s = max(got.done_at for got in every) - began
    waits = sorted(got.body_at - got.sent_at for got in every if not got.fault)
    return {
        "server": server.name,
        "order": order,
        "origin_ratio": given["body_bytes"] / plan.object_bytes,
        "origin_requests": given["requests"],
        "duplicate_bytes": given["duplicate_bytes"],
        "link_s": link_s,
        "last_done_s": last_s,
        "last_vs_link": last_s / link_s,
        "first_request_max_ms": _first_requests_ms(records),
        "first_byte_p50_ms": percentile(waits, 0.5) * 1000,
        "first_byte_max_ms": max(waits, default=0.0) * 1000,
        "checked_bytes": sum(got.body_bytes for got in every),
        "faults": faults(records),
    }


def _first_requests_ms(records: Sequence[Sequence[Got]]) -> float:
    return max((client[0].body_at - client[0].sent_at for client in records if not client[0].fault), default=0.0) * 1000


def _bars(row: dict[str, Any]) -> list[Bar]:
    name = f"herd, {row['order']}"
    bars = [
        at_least(f"{name}: answers without fault", float(not row["faults"]), 1.0),
        at_most(f"{name}: origin bytes / object", row["origin_ratio"], 1.0),
        at_most(f"{name}: last client / link time", row["last_vs_link"], 1.10),
    ]
    if row["order"] != "random":
        bars.append(at_most(f"{name}: slowest first byte, ms", row["first_byte_max_ms"], 100.0))
    return bars


def _table(rows: Sequence[dict[str, Any]], plan: HerdPlan) -> Table:
    heads = ("order", "server", "origin bytes", "origin requests", "last done", "vs link", "first byte max", "faults")
    lines = tuple(
        (
            row["order"],
            row["server"],
            f"{row['origin_ratio']:.3f} ×",
            str(row["origin_requests"]),
            f"{row['last_done_s']:.2f} s",
            f"{row['last_vs_link']:.2f}",
            f"{row['first_byte_max_ms']:.0f} ms",
            str(len(row["faults"])),
        )
        for row in sorted(rows, key=lambda row: ORDERS.index(row["order"]))
    )
    title = (
        f"Herd: {plan.clients} clients, one cold {plan.object_bytes / MIB:.0f} MiB object, {plan.link_mbps:.0f} Mbit/s"
    )
    return Table(title, heads, lines)
