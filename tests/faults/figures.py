"""What a harness hands back: one figure per bar, and the table that shows them.

Owns the form of figures and how strictly times are judged. Must not know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class Size(Enum):
    """How much a harness does; ``patience`` stretches bars of time where the machine is shared with other tests."""

    REDUCED = "reduced"
    FULL = "full"

    @property
    def patience(self) -> float:
        """Factor on every bar of time."""
        return 1.0 if self is Size.FULL else 10.0

    def choose(self, reduced: int, full: int) -> int:
        """One of two amounts."""
        return full if self is Size.FULL else reduced


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    fault: str
    bar: str
    figure: str
    within: bool


Harness = Callable[[Path, Size], Coroutine[Any, Any, list[Figure]]]
"""Does one kind of fault to a node whose files are in a fresh directory."""


def none_of(fault: str, what: str, count: int, *, among: str) -> Figure:
    """``what`` must not happen; ``among`` says how often it could have."""
    return Figure(fault, f"0 {what}", f"{count} in {among}", count == 0)


def at_most(fault: str, what: str, value: float, limit: float, *, unit: str = "") -> Figure:
    """A value with an upper bound."""
    return Figure(fault, f"{what} ≤ {limit:g}{unit}", f"{value:.4g}{unit}", value <= limit)


def at_least(fault: str, what: str, value: float, limit: float, *, unit: str = "") -> Figure:
    """A value with a lower bound."""
    return Figure(fault, f"{what} ≥ {limit:g}{unit}", f"{value:.4g}{unit}", value >= limit)


def in_time(fault: str, what: str, seconds: Iterable[float], limit_s: float, size: Size) -> Figure:
    """The longest of some times, judged by ``limit_s`` and the patience of ``size``."""
    taken = sorted(seconds)
    longest, median = (taken[-1], taken[len(taken) // 2]) if taken else (float("inf"), float("inf"))
    shown = f"{longest:.2f} s" if len(taken) < 2 else f"{longest:.2f} s, median {median:.2f} s"
    return Figure(fault, f"{what} ≤ {limit_s:g} s", shown, longest <= limit_s * size.patience)


def all_of(fault: str, what: str, reached: int, wanted: int) -> Figure:
    """Every one of ``wanted``."""
    return Figure(fault, f"100 % {what}", f"{reached} of {wanted}", reached == wanted and wanted > 0)


def table(figures: Iterable[Figure]) -> str:
    """The rows as a Markdown table."""
    rows = [("fault", "bar", "figure", "within")]
    rows += [(row.fault, row.bar, row.figure, "yes" if row.within else "NO") for row in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
