"""All harnesses by name, in the order of the table."""

from __future__ import annotations

from tests.faults import kills, nth_call
from tests.faults.figures import Harness

HARNESSES: dict[str, Harness] = {
    "kill": kills.run,
    "nth-call": nth_call.run,
}
