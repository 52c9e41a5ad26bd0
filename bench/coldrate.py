"""Cold content at full speed: how fast a cache fills and serves, and what of its core that takes, byte by byte checked.

The origin is nginx over files, without a limit, so that the server's core is the brake. The node is measured twice:
with a manifest, so that each piece is held against its hash before it goes out, and without. The others check nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import process
from bench.cold_servers import of_server
from bench.content import MIB, MOST_OBJECTS
from bench.fetch import FIRST_CONTACT_BYTES, Ask, faults, fetch, first_contact, pieces, whole
from bench.fill import VERIFIED, verified_pieces, verified_service
from bench.lab import AUTHORITY, Lab
from bench.nginx import start_file_origin
from bench.node import with_settings
from bench.origin import MANIFEST_SUFFIX
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_least, at_most, stated
from bench.servers import NODE, SLICE, Kind, Running, running

VERIFYING = f"{NODE}, verifying"
GIB = 1 << 30
_SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class ColdRatePlan:
    """Each object is asked for by two clients; ``cases`` are numbers of clients, and whether they ask for pieces."""

    objects: int = 24
    object_bytes: int = 64 * MIB
    cases: tuple[tuple[int, bool], ...] = ((1, False), (8, False), (64, False), (8, True))


QUICK = ColdRatePlan(objects=4, object_bytes=2 * MIB, cases=((2, False), (2, True)))


def run_coldrate(lab: Lab, kinds: Sequence[Kind], plan: ColdRatePlan) -> dict[str, Any]:
    """Measure every kind that caches, each case from an empty cache; plain data."""
    for number, path in enumerate(lab.write_objects(plan.objects, plan.object_bytes)):
        (lab.docroot / f"{path[1:]}{MANIFEST_SUFFIX}").write_bytes(lab.truth.manifest(number, plan.object_bytes))
    lab.truth.write_object(lab.docroot, MOST_OBJECTS - 1, FIRST_CONTACT_BYTES)
    origin = start_file_origin(lab)
    chosen = with_settings([kind for kind in kinds if kind.caches], verified_service(origin.port))
    rows = []
    for clients, by_pieces in plan.cases:
        case = f"{clients} clients, {'ranges of 1 MiB' if by_pieces else 'whole objects'}"
        plans = plans_of(clients, plan, by_pieces=by_pieces)
        for kind in chosen:
            for name, host in ((VERIFYING, VERIFIED), (NODE, AUTHORITY)) if kind.name == NODE else ((kind.name, ""),):
                with running(kind, lab, origin.port) as server:
                    rows.append({"case": case, "server": name} | _measured(lab, server, plan, plans, host))
    return outcome("coldrate", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows)))


def plans_of(clients: int, plan: ColdRatePlan, *, by_pieces: bool) -> list[list[Ask]]:
    """What each client asks, one after another; clients in pairs ask for the same objects."""
    pairs = max(1, clients // 2)
    numbers = [
        [n for n in range(plan.objects) if n % pairs == client // 2] or [client // 2 % plan.objects]
        for client in range(clients)
    ]
    return [[ask for n in mine for ask in _asks(n, plan.object_bytes, by_pieces)] for mine in numbers]


def _asks(number: int, length_bytes: int, by_pieces: bool) -> list[Ask]:
    return pieces(number, length_bytes, MIB) if by_pieces else [whole(number, length_bytes)]


def _measured(
    lab: Lab, server: Running, plan: ColdRatePlan, plans: Sequence[Sequence[Ask]], host: str
) -> dict[str, Any]:
    """One case on one server; GiB are those that were filled."""
    suffix = f"?cacheHostOrigin={host}" if host else ""
    first_contact(server.port, AUTHORITY, lab.truth, suffix=suffix)
    idle, before = process.memory(server.pids()).rss_bytes, process.cpu_seconds(server.pids())
    main = process.thread_cpu_seconds(server.popen.pid).get(server.popen.pid, 0.0)
    began_s = time.monotonic()
    with process.Peak(lambda: process.memory(server.pids()).rss_bytes, every_s=_SAMPLE_S) as peak:
        records = fetch(server.port, AUTHORITY, plans, lab.truth, suffix=suffix, timeout_s=180)
    took_s = time.monotonic() - began_s
    cpu_s = process.cpu_seconds(server.pids()) - before
    main_s = process.thread_cpu_seconds(server.popen.pid).get(server.popen.pid, 0.0) - main
    gib, found = plan.objects * plan.object_bytes / GIB, faults(records)
    if host == VERIFIED and verified_pieces(server) < plan.objects * plan.object_bytes // MIB:
        found.append(f"{verified_pieces(server)} pieces verified")
    return {
        "gib_per_s": gib / took_s,
        "cpu_s_per_gib": cpu_s / gib,
        "beside_main": 1 - main_s / cpu_s if cpu_s else 0.0,
        "peak_mib": (peak.most - idle) / MIB,
        "faults": found,
    }


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    found = []
    for row in of_server(rows, VERIFYING):
        name, peers = f"cold rate, {row['case']}", [each for each in rows if each["case"] == row["case"]]
        slices = of_server(peers, SLICE)
        others = [each for each in peers if not each["server"].startswith(NODE)]
        mine = f"{row['cpu_s_per_gib']:.2f} s/GiB"
        if slices:
            peer = slices[0]["cpu_s_per_gib"]
            texts = {"mine": mine, "peer": f"{SLICE} {peer:.2f} s/GiB"}
            found.append(
                at_most(f"{name}: CPU, verified", row["cpu_s_per_gib"] / peer, 0.9, unit="×", aim=0.75, **texts)
            )
        if others:
            best = max(others, key=lambda each: each["gib_per_s"])
            texts = {"mine": f"{row['gib_per_s']:.2f} GiB/s", "peer": f"{best['server']} {best['gib_per_s']:.2f} GiB/s"}
            found.append(
                at_least(f"{name}: rate, verified", row["gib_per_s"] / best["gib_per_s"], 1.1, aim=1.5, **texts)
            )
        found.append(stated(f"{name}: CPU beside the main thread", row["beside_main"], mine=mine))
        found.append(at_most(f"{name}: memory beyond idle", row["peak_mib"], 192.0, unit="MiB", aim=96.0))
    return found


def _table(rows: Sequence[dict[str, Any]], plan: ColdRatePlan) -> Table:
    heads = ("case", "server", "rate", "CPU", "beside the main thread", "memory beyond idle", "faults")
    lines = tuple(
        (
            row["case"],
            row["server"],
            f"{row['gib_per_s']:.2f} GiB/s",
            f"{row['cpu_s_per_gib']:.2f} s/GiB",
            f"{row['beside_main'] * 100:.0f} %" if row["server"].startswith(NODE) else "",
            f"{row['peak_mib']:.0f} MiB",
            str(len(row["faults"])),
        )
        for row in rows
    )
    return Table(
        f"Cold rate: {plan.objects} objects of {plan.object_bytes // MIB} MiB, each for two clients", heads, lines
    )
