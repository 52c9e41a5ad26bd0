"""One shape for every figure of the one table: what was measured, beside whom, against which bar, and does it hold.

Owns: rows, how rows of several runs become one, and the table's lines. Must not measure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.report import Table

HEADS = ("measure", "this node", "peer", "ratio or figure", "bar", "aim", "holds")
TITLE = "All measures"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``figure`` None: it could not be measured, ``note`` says why; ``bar`` None: stated without a bar."""

    measure: str
    figure: float | None
    unit: str = ""
    sense: str = ""
    bar: float | None = None
    aim: float | None = None
    mine: str = ""
    """What this node did, with its unit."""
    peer: str = ""
    """Who it is compared with and what they did; empty where there is no peer."""
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is reached; None where nothing was measured or there is no bar."""
        if self.figure is None or self.bar is None:
            return None
        return self.figure >= self.bar if self.sense == "≥" else self.figure <= self.bar


def at_least(measure: str, figure: float | None, bar: float, *, unit: str = "×", **more: Any) -> Row:
    """A figure that must not fall below ``bar``; ``more``: other fields of the row."""
    return Row(measure, figure, unit, "≥", bar, **more)


def at_most(measure: str, figure: float | None, bar: float, *, unit: str = "", **more: Any) -> Row:
    """A figure that must not exceed ``bar``; ``more``: other fields of the row."""
    return Row(measure, figure, unit, "≤", bar, **more)


def stated(measure: str, figure: float | None, *, unit: str = "×", **more: Any) -> Row:
    """A figure without a bar."""
    return Row(measure, figure, unit, **more)


def as_facts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as plain data, ``holds`` included."""
    return [asdict(row) | {"holds": row.holds} for row in rows]


def merge(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several runs, as ``as_facts`` gives them, as one list.

    A row is that of its lower median run, with all ``figures``, how many ``runs`` measured it and in how many its bar
    ``held`` (None without a bar).
    """
    by_measure: dict[str, list[dict[str, Any]]] = {}
    for rows in runs:
        for row in rows:
            by_measure.setdefault(row["measure"], []).append(row)
    return [_merged(rows) for rows in by_measure.values()]


def _merged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measured = [row for row in rows if row["figure"] is not None]
    if not measured:
        return rows[0] | {"figures": [], "runs": 0, "held": None}
    middle = statistics.median_low([row["figure"] for row in measured])
    row = next(row for row in measured if row["figure"] == middle)
    held = None if row["bar"] is None else sum(bool(row["holds"]) for row in measured)
    holds = None if held is None else held == len(measured)
    return row | {
        "figures": [each["figure"] for each in measured], "runs": len(measured), "held": held, "holds": holds,
    }  # fmt: skip


def one_table(merged: Sequence[dict[str, Any]]) -> Table:
    """All rows as one table for people."""
    return Table(TITLE, HEADS, tuple(_line(row) for row in merged))


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    figure = "–" if row["figure"] is None else f"{shown(row['figure'])} {row['unit']}".strip()
    bar, aim = (
        "" if row[name] is None else f"{row['sense']} {row[name]:g} {row['unit']}".strip() for name in ("bar", "aim")
    )
    return row["measure"], row["mine"], row["peer"], figure, bar, aim, _verdict(row)


def _verdict(row: dict[str, Any]) -> str:
    if row["figure"] is None:
        return f"not measured: {row['note'] or 'no peer'}"
    if row["held"] is None:
        return row["note"] or "stated"
    word = "yes" if row["holds"] else "**no**"
    if row["runs"] > 1:
        word = f"{word}, {row['held']} of {row['runs']}"
    return f"{word}; {row['note']}" if row["note"] else word


def shown(figure: float) -> str:
    """A figure with three significant digits, whole numbers whole."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
