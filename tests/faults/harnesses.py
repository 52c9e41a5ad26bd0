"""All harnesses by name, in the order of the table."""

from __future__ import annotations

from tests.faults import (
    bad_disk,
    bad_origin,
    changes,
    full_disk,
    kills,
    leaving,
    limits,
    model,
    nth_call,
    power_cut,
    simulation,
    soak,
    statements,
)
from tests.faults.figures import Harness

HARNESSES: dict[str, Harness] = {
    "kill": kills.run,
    "nth-call": nth_call.run,
    "power-cut": power_cut.run,
    "full-disk": full_disk.run,
    "bad-disk": bad_disk.run,
    "bad-origin": bad_origin.run,
    "cold-object": leaving.one_cold_object,
    "disconnects": leaving.disconnects,
    "slow-readers": leaving.slow_readers,
    "reloads": changes.reloads,
    "sigterm": changes.sigterm,
    "clock": limits.clock_jumps,
    "descriptors": limits.descriptors,
    "simulation": simulation.run,
    "model": model.run,
    "statements": statements.run,
    "soak": soak.run,
}
UNTIMED = ("nth-call", "power-cut", "simulation", "model", "statements")
"""They have no bar of time: in full size they run beside ``soak``, which has none either."""
