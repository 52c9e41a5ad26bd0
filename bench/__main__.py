"""The command line: ``python -m bench [all|BENCH|profile]``; every measure as JSON and as one Markdown table."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bench.benches import ALL, BENCHES
from bench.content import MIB
from bench.lab import Lab
from bench.network import enter_own_network
from bench.peers import choose
from bench.process import raise_descriptor_limit
from bench.report import machine_facts, markdown
from bench.rows import merge, one_table
from bench.servers import Kind
from cacheserver.web.sending.tcp import paces

LONGEST_BYTES = 100 * MIB
FAULTS_EXIT, BARS_EXIT = 1, 3


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    grammar = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    grammar.add_argument("bench", choices=[*BENCHES, "all"], nargs="?", default="all")
    grammar.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean little")
    grammar.add_argument("--check", action="store_true", help=f"exit status {BARS_EXIT} when a bar does not hold")
    grammar.add_argument("--repeat", type=int, default=1, help="do everything so many times; in how many a bar held")
    grammar.add_argument("--servers", help="comma list of servers; default: all that are installed")
    grammar.add_argument("--runs", type=int, help="alternating runs per server and case")
    grammar.add_argument("--seconds", type=float, help="length of one run under load")
    grammar.add_argument("--object-mib", type=int, help="size of the objects of hits, tls and fill")
    grammar.add_argument("--stored-objects", type=int, help="objects in the cache of restart")
    grammar.add_argument("--seed", type=int, default=1)
    grammar.add_argument("--congestion", help="TCP congestion control, in a network of the bench's own; needs root")
    grammar.add_argument("--node-config", type=Path, help="the node's TOML; @CERT@ and @KEY@ become file names")
    grammar.add_argument("--json", type=Path, help="write the JSON here instead of standard output")
    grammar.add_argument("--markdown", type=Path, help="write the tables here instead of standard error")
    return grammar


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what the command line asks for, as often as it says; the report as plain data."""
    kinds, missing = choose(options.servers.split(",") if options.servers else None)
    raise_descriptor_limit()
    report: dict[str, Any] = {
        "machine": machine_facts(),
        "quick": options.quick,
        "repeat": options.repeat,
        "versions": {kind.name: kind.version() for kind in kinds},
        "setups": {kind.name: kind.notes for kind in kinds},
        "missing": missing,
        "warnings": [],
        "failures": {},
        "measures": [],
        "benches": [],
    }
    names = ALL if options.bench == "all" else (options.bench,)
    for number in range(1, options.repeat + 1):
        for name in names:
            print(f"bench: {name}, run {number} of {options.repeat} …", file=sys.stderr, flush=True)
            _run_one(name, number, kinds, options, report)
    runs = range(1, options.repeat + 1)
    report["measures"] = merge(
        [[row for bench in report["benches"] if bench["run"] == number for row in bench["measures"]] for number in runs]
    )
    report["warnings"] = _warnings(report)
    return report


def _run_one(
    name: str, number: int, kinds: Sequence[Kind], options: argparse.Namespace, report: dict[str, Any]
) -> None:
    """Run one bench in a laboratory of its own; what the others found is worth keeping when it fails."""
    longest = max(LONGEST_BYTES, (options.object_mib or 0) * MIB)
    with Lab(seed=options.seed, longest_bytes=longest, node_config=options.node_config) as lab:
        # Everything that is not a server under test stays off its core, this process included.
        os.sched_setaffinity(0, {lab.client_core})
        report["cores"] = {"server": lab.server_core, "client": lab.client_core}
        try:
            report["benches"].append(BENCHES[name](lab, kinds, options) | {"run": number})
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            report["failures"][f"{name}, run {number}"] = str(error)
        finally:
            os.sched_setaffinity(0, set(lab.cores))


def _warnings(report: dict[str, Any]) -> list[str]:
    found = [f"{name} failed: {' '.join(error.split())}" for name, error in report["failures"].items()]
    found += [f"{bench['bench']}: answers were wrong, see the JSON" for bench in report["benches"] if bench["wrong"]]
    found += [
        f"{bench['bench']}: {' '.join(reason.split())}"
        for bench in report["benches"] for failed in bench.get("failed", {}).values() for reason in failed.values()
    ]  # fmt: skip
    if report["cores"]["server"] == report["cores"]["client"]:
        found.append("One core only: server and client share it, the figures mean little.")
    if paces():
        found.append("TCP paces what it sends on this machine: large answers say much about its timers.")
    if report["machine"]["load_average"][0] > 0.5:
        found.append("The machine was busy at the start; do not quote these figures.")
    if report["quick"]:
        found.append("Quick run: it shows that the bench works, not how fast anything is.")
    return found


def exit_status(report: dict[str, Any], *, check: bool) -> int:
    """0; 1 when a bench failed or an answer was wrong; with ``check`` 3 when a bar that was measured does not hold."""
    if report["failures"] or any(bench["wrong"] for bench in report["benches"]):
        return FAULTS_EXIT
    return BARS_EXIT if check and any(row["holds"] is False for row in report["measures"]) else 0


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def main() -> int:
    """Run, print, and return ``exit_status``."""
    options = parser().parse_args()
    if options.congestion:
        try:
            enter_own_network(options.congestion, sys.argv[1:])
        except (OSError, subprocess.SubprocessError) as error:
            print(f"bench: --congestion {options.congestion}: {error}", file=sys.stderr)
            return FAULTS_EXIT
    signal.signal(signal.SIGTERM, _on_terminate)
    report = run(options)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)
    tables = markdown(report, one_table(report["measures"]))
    if options.markdown:
        options.markdown.write_text(tables)
    else:
        print(tables, file=sys.stderr)
    return exit_status(report, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
