"""What every bench of cold content does: one slow origin and one empty cache after another, records as figures.

Must not decide what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.fetch import Ask, Got, faults, fetch, first_contact
from bench.lab import AUTHORITY, CountingOrigin, Lab, OriginLimits
from bench.load import percentile
from bench.servers import Kind, Running, running


def each_cold(lab: Lab, kinds: Sequence[Kind], limits: OriginLimits) -> Iterator[tuple[Running, CountingOrigin]]:
    """Every kind that caches, empty and alone with an origin of its own; what a process does once is done."""
    for kind in kinds:
        if kind.caches:
            with lab.origin(limits) as origin, running(kind, lab, origin.port) as server:
                first_contact(server.port, AUTHORITY, lab.truth)
                yield server, origin


def ask_cold(
    lab: Lab, server: Running, origin: CountingOrigin, plans: Sequence[Sequence[Ask]]
) -> tuple[dict[str, Any], list[list[Got]]]:
    """Follow the plans, all of one object, at once; what came of it, and each answer.

    Times in ms count from a request to the first byte of its body, ``beyond`` ones from the origin's first body byte.
    """
    records = fetch(server.port, AUTHORITY, plans, lab.truth, timeout_s=180)
    ask = plans[0][0]
    given = origin.record(ask.path)
    every = [got for client in records for got in client]
    right = [got for got in every if not got.fault]
    waits = sorted((got.body_at - got.sent_at) * 1000 for got in right)
    began = min(got.sent_at for got in every)
    facts = {
        "server": server.name,
        "all_done_s": max((got.done_at for got in right), default=began) - began,
        "first_byte_p50_ms": percentile(waits, 0.5),
        "first_byte_max_ms": max(waits, default=0.0),
        "beyond_ms": [(got.body_at - given["first_byte_at"]) * 1000 for got in right],
        "origin_bytes": given["body_bytes"],
        "origin_ratio": given["body_bytes"] / ask.length_bytes,
        "origin_requests": given["requests"],
        "duplicate_bytes": given["duplicate_bytes"],
        "checked_bytes": sum(got.body_bytes for got in every),
        "faults": faults(records),
    }
    return facts, records


def of_server(rows: Sequence[dict[str, Any]], server: str) -> list[dict[str, Any]]:
    """The raw rows of one server."""
    return [row for row in rows if row["server"] == server]


def peers_text(rows: Sequence[dict[str, Any]], mine: str, name: str, unit: str) -> str:
    """What the other servers have under ``name``, for the peer column."""
    return ", ".join(f"{row['server']} {row[name]:.3g} {unit}" for row in rows if row["server"] != mine)
