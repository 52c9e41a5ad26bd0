"""What verification costs: the same node fills cold objects with a piece-hash file and without one, in turns.

A piece that has a hash is held until it matched, one without streams; both are hashed, as pieces are checked at rest.
So the difference in throughput is the price of holding, and the hash itself is measured apart. Every byte that the
client gets is compared with the truth, and the node's own count says whether it verified every piece.
"""

from __future__ import annotations

import hashlib
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.content import MIB
from bench.fetch import faults, fetch, first_contact, whole
from bench.lab import AUTHORITY, CountingOrigin, Lab, OriginLimits
from bench.node import metric, node_kind
from bench.origin import MANIFEST_SUFFIX
from bench.process import pinned, thread_cpu_seconds
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_least, at_most
from bench.servers import NODE, Kind, Running, running

VERIFIED = "verified.bench.example"
"""The same origin under a name whose service has manifests."""
_COUNTER = 'cacheserver_verified_pieces_total{level="self_consistent",result="ok"}'
_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class FillPlan:
    """Objects, rounds, and the origin's rates in 10^6 bit/s; 0: no limit."""

    object_bytes: int = 100 * MIB
    runs: int = 7
    rates_mbps: tuple[float, ...] = (1000.0, 0.0)


QUICK = FillPlan(object_bytes=8 * MIB, runs=2)


def run_fill(lab: Lab, kinds: Sequence[Kind], plan: FillPlan) -> dict[str, Any]:
    """Measure the node at every rate; plain data. Nothing where the node is not among ``kinds``."""
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        if kind.name == NODE:
            for rate in plan.rates_mbps:
                rows += _at_rate(lab, plan, rate)
    hash_ms = _hash_ms_per_mib(lab)
    tables = [_table(rows, plan, hash_ms)] if rows else []
    more = {"hash_ms_per_mib": hash_ms, "measures": as_facts(_measures(rows, hash_ms))}
    return outcome("fill", plan, rows, tables=tables, **more)


def _at_rate(lab: Lab, plan: FillPlan, rate_mbps: float) -> list[dict[str, Any]]:
    rounds: list[dict[bool, dict[str, Any]]] = []
    with (
        lab.origin(OriginLimits(total_mbps=rate_mbps)) as origin,
        running(node_kind(verified_service(origin.port)), lab, origin.port) as server,
    ):
        for host in (AUTHORITY, VERIFIED):
            first_contact(server.port, AUTHORITY, lab.truth, suffix=f"?cacheHostOrigin={host}")
        for turn in range(plan.runs):
            order = (True, False) if turn % 2 else (False, True)
            rounds.append({manifest: _one(lab, server, origin, turn, plan, manifest) for manifest in order})
    return [_row(rounds, rate_mbps, with_manifest) for with_manifest in (False, True)]


def verified_service(origin_port: int) -> dict[str, dict[str, Any]]:
    """Settings with one more service, whose objects have manifests."""
    manifests = [{"path": "/o/*.bin", "url": f"{{base}}{MANIFEST_SUFFIX}"}]
    return {
        "services": {"verified": {"hosts": [VERIFIED], "manifests": manifests}},
        "upstream": {"connect_to": {VERIFIED: f"127.0.0.1:{origin_port}"}},
    }


def _one(
    lab: Lab, server: Running, origin: CountingOrigin, turn: int, plan: FillPlan, with_manifest: bool
) -> dict[str, Any]:
    """Fetch one cold object through the node."""
    ask = whole(2 * turn + with_manifest, plan.object_bytes)
    _make_manifest(origin, ask.path)
    suffix = f"?cacheHostOrigin={VERIFIED if with_manifest else AUTHORITY}"
    verified, before = verified_pieces(server), thread_cpu_seconds(server.popen.pid)
    records = fetch(server.port, AUTHORITY, [[ask]], lab.truth, suffix=suffix, timeout_s=120)
    after = thread_cpu_seconds(server.popen.pid)
    used = {thread: seconds - before.get(thread, 0.0) for thread, seconds in after.items()}
    main_s = used.pop(server.popen.pid, 0.0)
    found = faults(records)
    expected = -(-plan.object_bytes // MIB) if with_manifest else 0
    if verified_pieces(server) - verified != expected:
        found.append(f"{ask.path}: {verified_pieces(server) - verified} pieces verified, not {expected}")
    got, mib = records[0][0], plan.object_bytes / MIB
    return {
        "mib_per_s": mib / (got.done_at - got.sent_at) if not found else 0.0,
        "main_ms_per_mib": main_s * 1000 / mib,
        "executor_ms_per_mib": sum(used.values()) * 1000 / mib,
        "faults": found,
    }


def _make_manifest(origin: CountingOrigin, path: str) -> None:
    """Have the origin make a manifest now, so that its making is not measured."""
    with urllib.request.urlopen(f"http://127.0.0.1:{origin.port}{path}{MANIFEST_SUFFIX}", timeout=30) as answer:
        answer.read()


def verified_pieces(server: Running) -> int:
    """What the node says that it has verified so far."""
    return int(metric(server, _COUNTER))


def _row(rounds: Sequence[dict[bool, dict[str, Any]]], rate_mbps: float, with_manifest: bool) -> dict[str, Any]:
    mine = [each[with_manifest] for each in rounds]
    ratios = [each[True]["mib_per_s"] / each[False]["mib_per_s"] for each in rounds if each[False]["mib_per_s"]]
    rates = [one["mib_per_s"] for one in mine]
    middle = statistics.median(rates)
    return {
        "server": NODE,
        "rate_mbps": rate_mbps,
        "manifest": with_manifest,
        "mib_per_s": middle,
        "spread": (max(rates) - min(rates)) / middle if middle else 0.0,
        "ratio": statistics.median(ratios) if ratios and with_manifest else None,
        "main_ms_per_mib": statistics.median(one["main_ms_per_mib"] for one in mine),
        "executor_ms_per_mib": statistics.median(one["executor_ms_per_mib"] for one in mine),
        "faults": [fault for one in mine for fault in one["faults"]],
    }


def _hash_ms_per_mib(lab: Lab, rounds: int = 32) -> float:
    """CPU that one MiB costs to hash in chunks, on the server's core; the median."""
    data = lab.truth.read(0, 0, MIB)
    chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, MIB, _CHUNK_BYTES)]
    took = []
    with pinned(lab.server_core):
        for _ in range(rounds):
            began = time.thread_time()
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
            digest.digest()
            took.append((time.thread_time() - began) * 1000)
    return statistics.median(took)


def _measures(rows: Sequence[dict[str, Any]], hash_ms: float) -> list[Row]:
    if not rows:
        return []
    cpu_ms = hash_ms + max(0.0, _more_cpu_ms(rows))
    cpu = {"mine": f"{cpu_ms:.2f} ms", "peer": f"SHA-256 alone {hash_ms:.2f} ms"}
    limited = [row["ratio"] for row in rows if row["manifest"] and row["rate_mbps"]]
    with_mib, without_mib = rows[1]["mib_per_s"], rows[0]["mib_per_s"]
    texts = {"mine": f"{with_mib:.0f} MiB/s", "peer": f"without a manifest {without_mib:.0f} MiB/s"}
    return [
        at_most("fill: verification, executor CPU per MiB", cpu_ms, 0.6, unit="ms", **cpu),
        at_least("fill at 1 Gbit/s: with manifest / without", limited[0] if limited else None, 0.95, **texts),
    ]


def _more_cpu_ms(rows: Sequence[dict[str, Any]]) -> float:
    """What the node's other threads use more with a manifest, per MiB, at the first rate: hashing is in both."""
    first = [row["executor_ms_per_mib"] for row in rows[:2]]
    return first[1] - first[0] if len(first) == 2 else 0.0


def _table(rows: Sequence[dict[str, Any]], plan: FillPlan, hash_ms: float) -> Table:
    heads = ("origin", "manifest", "fill", "spread", "with / without", "main thread", "other threads", "faults")
    lines = tuple(
        (
            f"{row['rate_mbps']:.0f} Mbit/s" if row["rate_mbps"] else "no limit",
            "yes" if row["manifest"] else "no",
            f"{row['mib_per_s']:.0f} MiB/s",
            f"{row['spread'] * 100:.0f} %",
            "" if row["ratio"] is None else f"{row['ratio']:.3f}",
            f"{row['main_ms_per_mib']:.2f} ms/MiB",
            f"{row['executor_ms_per_mib']:.2f} ms/MiB",
            str(len(row["faults"])),
        )
        for row in rows
    )
    title = f"Fill of cold {plan.object_bytes // MIB} MiB objects, {plan.runs} rounds; SHA-256 {hash_ms:.2f} ms per MiB"
    return Table(title, heads, lines)
