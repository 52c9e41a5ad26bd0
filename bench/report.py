"""How results look: machine facts, tables, JSON and Markdown. Must not measure."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.lab import ROOT
from bench.network import congestion_control


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def machine_facts() -> dict[str, Any]:
    """Processor, kernel, memory, cores, date, commit, Python, TCP's congestion control and load of this machine.

    A Python whose interpreter is a shared library is slower than one with the interpreter in its program, as Debian's.
    """
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "kernel": platform.release(),
        "system": next((line[13:-1] for line in _lines("/etc/os-release") if line.startswith("PRETTY_NAME=")), ""),
        "python": sys.version.split()[0],
        "python_is_library": any("libpython3" in line for line in _lines("/proc/self/maps")),
        "congestion_control": congestion_control(),
        "load_average": list(os.getloadavg()),
    }


def commit() -> str:
    """The checked-out commit, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []


def outcome(
    bench: str, plan: object, rows: Sequence[dict[str, Any]], *, tables: Sequence[Table] = (), **more: Any
) -> dict[str, Any]:
    """What a bench hands back: its plan (a dataclass), its raw rows, its tables, and whether a byte was wrong.

    ``measures``, its rows of the one table, are among ``more``. Raw rows name wrong answers in ``faults``.
    """
    return {
        "bench": bench,
        "plan": asdict(plan),  # type: ignore[call-overload]
        "rows": list(rows),
        "wrong": any(row.get("faults") for row in rows),
        "tables": [asdict(table) for table in tables],
    } | more


def markdown(report: Mapping[str, Any], summary: Table) -> str:
    """The whole report as Markdown: machine, versions, the one table of all measures, then the table of each bench."""
    facts = report["machine"]
    parts = [
        f"{facts['date']} · commit {facts['commit'] or 'unknown'} · {facts['cpu']}, {facts['cores']} cores · "
        f"{facts['system']}, Linux {facts['kernel']} · Python {facts['python']}"
        f"{', as a shared library' if facts['python_is_library'] else ''} · TCP {facts['congestion_control']} · "
        f"load {facts['load_average'][0]:.1f} at the start"
    ]
    setups = report["setups"]
    parts.append("\n".join(f"* {name}: {version}; {setups[name]}" for name, version in report["versions"].items()))
    if report["missing"]:
        parts.append("\n".join(f"* {name}: left out, {reason}" for name, reason in report["missing"].items()))
    parts += [f"**{warning}**" for warning in report["warnings"]]
    if summary.lines:
        parts += [f"## {summary.title}", grid(summary.heads, summary.lines)]
    for bench in report["benches"]:
        run = f", run {bench['run']}" if report["repeat"] > 1 else ""
        for table in bench["tables"]:
            parts += [f"### {table['title']}{run}", grid(table["heads"], table["lines"])]
    return "\n\n".join(parts) + "\n"


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
