"""The command line: ``python -m bench [hits|tls|herd|cold|waiters|restart|fill|all]``; JSON and Markdown."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from bench import cold, fill, herd, hits, restart, waiters
from bench.content import MIB
from bench.lab import Lab
from bench.peers import choose
from bench.process import raise_descriptor_limit
from bench.report import machine_facts, markdown
from bench.servers import Kind

LONGEST_BYTES = 100 * MIB
BENCHES = ("hits", "tls", "herd", "cold", "waiters", "restart", "fill")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    grammar = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    grammar.add_argument("bench", choices=[*BENCHES, "all"], nargs="?", default="all")
    grammar.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean little")
    grammar.add_argument("--servers", help="comma list of servers; default: all that are installed")
    grammar.add_argument("--runs", type=int, help="alternating runs per server and size, or of fill")
    grammar.add_argument("--seconds", type=float, help="length of one run of hits")
    grammar.add_argument("--object-mib", type=int, help="size of the objects of hits and fill")
    grammar.add_argument("--stored-objects", type=int, help="objects in the cache of restart")
    grammar.add_argument("--seed", type=int, default=1)
    grammar.add_argument("--node-config", type=Path, help="the node's TOML; @CERT@ and @KEY@ become file names")
    grammar.add_argument("--json", type=Path, help="write the JSON here instead of standard output")
    grammar.add_argument("--markdown", type=Path, help="write the tables here instead of standard error")
    return grammar


def _hits_plan(options: argparse.Namespace, *, tls: bool) -> hits.HitsPlan:
    plan = hits.HitsPlan(seed=options.seed, tls=tls)
    if tls:
        plan = replace(plan, cases=tuple(case for case in hits.CASES if case.label in ("64 KiB", "1 MiB", "10 MiB")))
    plan = hits.quick(plan) if options.quick else plan
    given = {"runs": options.runs, "seconds": options.seconds}
    given["object_bytes"] = options.object_mib * MIB if options.object_mib else None
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


def _fill_plan(options: argparse.Namespace) -> fill.FillPlan:
    plan = fill.QUICK if options.quick else fill.FillPlan()
    given = {"runs": options.runs, "object_bytes": options.object_mib * MIB if options.object_mib else None}
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


def _runners(options: argparse.Namespace) -> dict[str, Callable[[Lab, list[Kind]], dict[str, Any]]]:
    quick = options.quick
    stored = options.stored_objects or (2_000 if quick else 1_000_000)
    return {
        "hits": lambda lab, kinds: hits.run_hits(lab, kinds, _hits_plan(options, tls=False)),
        "tls": lambda lab, kinds: hits.run_hits(lab, kinds, _hits_plan(options, tls=True)),
        "herd": lambda lab, kinds: herd.run_herd(lab, kinds, herd.QUICK if quick else herd.HerdPlan()),
        "cold": lambda lab, kinds: cold.run_cold(lab, kinds, cold.QUICK if quick else cold.ColdPlan()),
        "waiters": lambda lab, kinds: waiters.run_waiters(
            lab, kinds, waiters.QUICK if quick else waiters.WaitersPlan()
        ),
        "fill": lambda lab, kinds: fill.run_fill(lab, kinds, _fill_plan(options)),
        "restart": lambda lab, kinds: restart.run_restart(
            lab, kinds, replace(restart.QUICK if quick else restart.RestartPlan(), stored_objects=stored)
        ),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what the command line asks for; the report as plain data."""
    kinds, missing = choose(options.servers.split(",") if options.servers else None)
    raise_descriptor_limit()
    names = BENCHES if options.bench == "all" else (options.bench,)
    report: dict[str, Any] = {
        "machine": machine_facts(),
        "quick": options.quick,
        "versions": {kind.name: kind.version() for kind in kinds},
        "setups": {kind.name: kind.notes for kind in kinds},
        "missing": missing,
        "warnings": [],
        "failures": {},
        "benches": [],
    }
    for name in names:
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        longest = max(LONGEST_BYTES, (options.object_mib or 0) * MIB)
        with Lab(seed=options.seed, longest_bytes=longest, node_config=options.node_config) as lab:
            # Everything that is not a server under test stays off its core, this process included.
            os.sched_setaffinity(0, {lab.client_core})
            report["cores"] = {"server": lab.server_core, "client": lab.client_core}
            try:
                report["benches"].append(_runners(options)[name](lab, kinds))
            except (RuntimeError, OSError) as error:
                # What the other benches found is worth keeping.
                report["failures"][name] = str(error)
            finally:
                os.sched_setaffinity(0, set(lab.cores))
    report["warnings"] = _warnings(report)
    return report


def _warnings(report: dict[str, Any]) -> list[str]:
    found = [f"{name} failed: {' '.join(error.split())}" for name, error in report["failures"].items()]
    if report["cores"]["server"] == report["cores"]["client"]:
        found.append("One core only: server and client share it, the figures mean little.")
    if report["machine"]["load_average"][0] > 0.5:
        found.append("The machine was busy at the start; do not quote these figures.")
    if report["quick"]:
        found.append("Quick run: it shows that the bench works, not how fast anything is.")
    return found


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def main() -> int:
    """Run, print, and return 0; 1 when a bench failed, a byte was wrong, or a bar was missed outside of a quick run."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, _on_terminate)
    report = run(options)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)
    if options.markdown:
        options.markdown.write_text(markdown(report))
    else:
        print(markdown(report), file=sys.stderr)
    wrong = bool(report["failures"]) or any(bench["wrong"] for bench in report["benches"])
    missed = any(bar["reached"] is False for bench in report["benches"] for bar in bench["bars"])
    return int(wrong or (missed and not options.quick))


if __name__ == "__main__":
    sys.exit(main())
