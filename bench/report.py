"""How results look: machine facts, bars, tables, JSON and Markdown. Must not measure."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lab import ROOT


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that must be reached. ``value`` None: it could not be measured here."""

    name: str
    value: float | None
    bar: float
    sense: str
    reached: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def at_least(name: str, value: float | None, bar: float, *, client_bound: bool = False) -> Bar:
    """A bar that the value must not fall below."""
    note = "client is the brake" if client_bound else ""
    return Bar(name, value, bar, "≥", None if value is None else value >= bar, note)


def at_most(name: str, value: float | None, bar: float) -> Bar:
    """A bar that the value must not exceed."""
    return Bar(name, value, bar, "≤", None if value is None else value <= bar)


def machine_facts() -> dict[str, Any]:
    """Processor, kernel, memory, cores, date, commit and load of this machine."""
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


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as Markdown: machine, versions, each table, then the bars."""
    facts = report["machine"]
    parts = [
        f"{facts['date']} · commit {facts['commit'] or 'unknown'} · {facts['cpu']}, {facts['cores']} cores · "
        f"{facts['system']}, Linux {facts['kernel']} · load {facts['load_average'][0]:.1f} at the start"
    ]
    setups = report["setups"]
    parts.append("\n".join(f"* {name}: {version}; {setups[name]}" for name, version in report["versions"].items()))
    if report["missing"]:
        parts.append("\n".join(f"* {name}: left out, {reason}" for name, reason in report["missing"].items()))
    for warning in report["warnings"]:
        parts.append(f"**{warning}**")
    for bench in report["benches"]:
        for table in bench["tables"]:
            parts.append(f"### {table['title']}")
            parts.append(_grid(table["heads"], table["lines"]))
    bars = [bar for bench in report["benches"] for bar in bench["bars"]]
    if bars:
        parts.append("### Bars")
        parts.append(_grid(("figure", "measured", "bar", ""), [_bar_line(bar) for bar in bars]))
    return "\n\n".join(parts) + "\n"


def _bar_line(bar: Mapping[str, Any]) -> tuple[str, ...]:
    value = "–" if bar["value"] is None else f"{bar['value']:.3g}"
    verdict = {True: "reached", False: "**missed**", None: "not measured"}[bar["reached"]]
    return bar["name"], value, f"{bar['sense']} {bar['bar']:g}", f"{verdict} {bar['note']}".strip()


def _grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
