"""The benches by name, each with the plan that the command line asks for. Must not measure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from bench import (
    churn,
    cold,
    cold_disk,
    coldrate,
    crowd,
    fill,
    herd,
    hits,
    neighbours,
    policy,
    profile,
    restart,
    tls,
    waiters,
)
from bench.content import MIB
from bench.lab import Lab
from bench.servers import Kind

P = TypeVar("P")
Bench = Callable[[Lab, Sequence[Kind], argparse.Namespace], dict[str, Any]]


def _plan(options: argparse.Namespace, full: P, quick: P, *, sized: bool) -> P:
    """The plan, with what the command line gives in the place of its fields."""
    given = {
        "runs": options.runs,
        "seconds": options.seconds,
        "stored_objects": options.stored_objects,
        "object_bytes": options.object_mib * MIB if options.object_mib and sized else None,
    }
    plan: Any = quick if options.quick else full
    known = {field.name for field in fields(plan)}
    wanted = {name: value for name, value in given.items() if value is not None and name in known}
    changed: P = replace(plan, **wanted)
    return changed


def _with(run: Callable[[Lab, Sequence[Kind], P], dict[str, Any]], full: P, quick: P, *, sized: bool = False) -> Bench:
    """``sized``: the size of the objects is the command line's to choose."""

    def bench(lab: Lab, kinds: Sequence[Kind], options: argparse.Namespace) -> dict[str, Any]:
        return run(lab, kinds, _plan(options, full, quick, sized=sized))

    return bench


BENCHES: dict[str, Bench] = {
    "hits": _with(hits.run_hits, hits.HitsPlan(), hits.QUICK, sized=True),
    "tls": _with(tls.run_tls, hits.HitsPlan(), hits.QUICK, sized=True),
    "waiters": _with(waiters.run_waiters, waiters.WaitersPlan(), waiters.QUICK),
    "cold": _with(cold.run_cold, cold.ColdPlan(), cold.QUICK),
    "coldrate": _with(coldrate.run_coldrate, coldrate.ColdRatePlan(), coldrate.QUICK),
    "cold-disk": _with(cold_disk.run_cold_disk, cold_disk.ColdDiskPlan(), cold_disk.QUICK),
    "crowd": _with(crowd.run_crowd, crowd.CrowdPlan(), crowd.QUICK),
    "neighbours": _with(neighbours.run_neighbours, neighbours.NeighboursPlan(), neighbours.QUICK),
    "restart": _with(restart.run_restart, restart.RestartPlan(), restart.QUICK),
    "churn": _with(churn.run_churn, churn.ChurnPlan(), churn.QUICK),
    "policy": _with(policy.run_policy, policy.PolicyPlan(), policy.QUICK),
    "herd": _with(herd.run_herd, herd.HerdPlan(), herd.QUICK),
    "fill": _with(fill.run_fill, fill.FillPlan(), fill.QUICK, sized=True),
    "profile": _with(profile.run_profile, profile.ProfilePlan(), profile.QUICK),
}
"""In the order of the one table."""
ALL = tuple(name for name in BENCHES if name != "profile")
"""Those that the one table is made of."""
