"""Eviction under full load: a working set of twice the disk, whole objects in random orders, an origin without limits.

Owns: the watch over what the cache really occupies, blocks of deleted files that a process still holds included. Every
byte that a client gets is compared with the truth, and an answer that is short is a fault.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import process
from bench.content import MIB
from bench.fetch import faults, fetch, whole
from bench.lab import AUTHORITY, Lab
from bench.nginx import start_file_origin
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, Kind, Running, running

_BLOCK_BYTES = 512
_WATCH_EVERY_S = 0.03


@dataclass(frozen=True, slots=True)
class ChurnPlan:
    """How much the disk takes, and what is asked of it: ``objects`` are twice that."""

    capacity_bytes: int = 1024 * MIB
    object_bytes: int = 64 * MIB
    clients: int = 4
    rounds: int = 2
    timeout_s: float = 120.0
    seed: int = 1

    @property
    def objects(self) -> int:
        """A working set of twice the disk."""
        return 2 * self.capacity_bytes // self.object_bytes


QUICK = ChurnPlan(capacity_bytes=32 * MIB, object_bytes=4 * MIB, clients=2, rounds=1)


def watch(server: Running) -> process.Peak:
    """The most bytes that a server's cache has occupied."""
    assert server.store is not None
    objects = server.store / "objects"
    root, pids = objects if objects.is_dir() else server.store, server.pids()
    return process.Peak(lambda: occupied_bytes(root, pids), every_s=_WATCH_EVERY_S)


def occupied_bytes(root: Path, pids: Sequence[int]) -> int:
    """Bytes on disk of all files below ``root``, of deleted ones that these processes hold open too."""
    sizes: dict[tuple[int, int], int] = {}
    for folder, _folders, names in os.walk(root):
        for name in names:
            _note(sizes, os.path.join(folder, name))
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path).startswith(f"{root}/"):
                        _note(sizes, entry.path)
    return sum(sizes.values())


def _note(sizes: dict[tuple[int, int], int], path: str) -> None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        sizes[found.st_dev, found.st_ino] = found.st_blocks * _BLOCK_BYTES


def run_churn(lab: Lab, kinds: Sequence[Kind], plan: ChurnPlan) -> dict[str, Any]:
    """Measure every kind whose cache is on disk and has a limit; plain data."""
    lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    before, lab.store_bytes = lab.store_bytes, plan.capacity_bytes
    rows = []
    try:
        for kind in (kind for kind in kinds if kind.caches):
            with running(kind, lab, origin.port) as server:
                if server.store is not None:
                    rows.append(_measure(lab, server, origin, plan))
    finally:
        lab.store_bytes = before
    # A cache that cuts answers while it evicts is what is compared here, no fault of the bench.
    wrong = any(row["faults"] for row in rows if row["server"] == NODE)
    return outcome("churn", plan, rows, tables=[_table(rows, plan)], measures=as_facts(_measures(rows)), wrong=wrong)


def _measure(lab: Lab, server: Running, origin: Running, plan: ChurnPlan) -> dict[str, Any]:
    plans = []
    for client in range(plan.clients):
        asks = [whole(number, plan.object_bytes) for number in range(plan.objects)] * plan.rounds
        random.Random(plan.seed * 1000 + client).shuffle(asks)
        plans.append(asks)
    sent_before, began = _sent_bytes(origin), time.monotonic()
    with watch(server) as watched:
        records = fetch(server.port, AUTHORITY, plans, lab.truth, timeout_s=plan.timeout_s)
    took_s = time.monotonic() - began
    filled_bytes = _sent_bytes(origin) - sent_before
    got_bytes = sum(got.body_bytes for client in records for got in client)
    fill_bytes_per_s = filled_bytes / took_s
    over_bytes = max(0, watched.most - plan.capacity_bytes)
    return {
        "server": server.name,
        "took_s": took_s,
        "peak_bytes": watched.most,
        "capacity_bytes": plan.capacity_bytes,
        "fill_bytes_per_s": fill_bytes_per_s,
        "overshoot_bytes": over_bytes,
        "overshoot_s": over_bytes / fill_bytes_per_s if fill_bytes_per_s else 0.0,
        "byte_hit_ratio": 1 - filled_bytes / max(1, got_bytes),
        "checked_bytes": got_bytes,
        "faults": faults(records),
    }


def _sent_bytes(origin: Running) -> int:
    """Bytes that the origin's processes have written, by ``sendfile`` too."""
    return sum(process.io_counters(pid)["wchar"] for pid in origin.pids())


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    mine = next((row for row in rows if row["server"] == NODE), None)
    if mine is None:
        return []
    others = [row for row in rows if row["server"] != NODE]
    over = ", ".join(f"{row['server']} {row['overshoot_s']:.2f} s" for row in others)
    wrong = ", ".join(f"{row['server']} {len(row['faults'])}" for row in others)
    rate = f"{mine['overshoot_s']:.2f} s at {mine['fill_bytes_per_s'] / MIB:.0f} MiB/s"
    short = float(len(mine["faults"]))
    return [
        at_most("eviction churn, working set 2 × disk: overshoot", mine["overshoot_s"], 1.0, unit="s of fill",
                mine=rate, peer=over),
        at_most("eviction churn: short or wrong answers", short, 0.0, mine=f"{short:.0f}", peer=wrong),
    ]  # fmt: skip


def _table(rows: Sequence[dict[str, Any]], plan: ChurnPlan) -> Table:
    heads = ("server", "peak", "limit", "beyond it", "fill", "byte hit ratio", "faults")
    lines = tuple(
        (
            row["server"],
            f"{row['peak_bytes'] / MIB:.0f} MiB",
            f"{row['capacity_bytes'] / MIB:.0f} MiB",
            f"{row['overshoot_s']:.2f} s",
            f"{row['fill_bytes_per_s'] / MIB:.0f} MiB/s",
            f"{row['byte_hit_ratio']:.0%}",
            str(len(row["faults"])),
        )
        for row in rows
    )
    title = f"Churn: {plan.clients} clients, {plan.objects} objects of {plan.object_bytes // MIB} MiB"
    return Table(f"{title} over a disk of half of that", heads, lines)
