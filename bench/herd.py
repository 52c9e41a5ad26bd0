"""Many clients, one cold object, a narrow link: does each byte cross the link once, and does nobody wait for nothing?

Three orders of asking: the whole object in one request, its pieces in sequence, its pieces in an order of each
client's own. Every byte that any client gets is compared with the truth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cold_servers import ask_cold, each_cold, of_server, peers_text
from bench.content import MIB
from bench.fetch import Ask, pieces, whole
from bench.lab import Lab, OriginLimits
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind

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
    for server, origin in each_cold(lab, kinds, OriginLimits(delay_ms=plan.delay_ms, total_mbps=plan.link_mbps)):
        for number, order in enumerate(ORDERS):
            facts, _records = ask_cold(lab, server, origin, plans_of(order, number, plan))
            rows.append({"order": order, "last_vs_link": facts["all_done_s"] / _link_s(plan)} | facts)
    return outcome("herd", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows)))


def _link_s(plan: HerdPlan) -> float:
    """How long the object takes over the link at the least."""
    return plan.object_bytes * 8 / (plan.link_mbps * 1e6)


def plans_of(order: str, number: int, plan: HerdPlan) -> list[list[Ask]]:
    """What each client asks, one after another."""
    if order == "whole":
        return [[whole(number, plan.object_bytes)] for _ in range(plan.clients)]
    plans = [pieces(number, plan.object_bytes, MIB) for _ in range(plan.clients)]
    if order == "random":
        for client, asks in enumerate(plans):
            random.Random(plan.seed * 1000 + client).shuffle(asks)
    return plans


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    found = []
    for row in of_server(rows, NODE):
        name, same = f"herd, {row['order']}", [other for other in rows if other["order"] == row["order"]]
        for key, what, unit, bar in (
            ("origin_ratio", "origin bytes / object", "×", 1.0),
            ("last_vs_link", "last client / link time", "×", 1.1),
            ("first_byte_max_ms", "slowest first byte", "ms", 100.0),
        ):
            if key != "first_byte_max_ms" or row["order"] != "random":
                texts = {"mine": f"{row[key]:.3g} {unit}", "peer": peers_text(same, NODE, key, unit)}
                found.append(at_most(f"{name}: {what}", row[key], bar, unit=unit, **texts))
    return found


def _table(rows: Sequence[dict[str, Any]], plan: HerdPlan) -> Table:
    heads = ("order", "server", "origin bytes", "origin requests", "last done", "vs link", "first byte max", "faults")
    lines = tuple(
        (
            row["order"],
            row["server"],
            f"{row['origin_ratio']:.3f} ×",
            str(row["origin_requests"]),
            f"{row['all_done_s']:.2f} s",
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
