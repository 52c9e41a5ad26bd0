"""Runs every harness in its full size and prints one table: ``make security``.

Exit code 1 where a figure is outside its bar. ``--reduced`` runs the sizes of the test suite, ``--only TEXT`` the rows
whose attack holds the text; ``--output FILE`` writes the table as well.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.security import (
    test_admin,
    test_descriptors,
    test_disk_filling,
    test_keys,
    test_logs,
    test_memory,
    test_neighbours,
    test_optimized,
    test_parsers,
    test_planted,
    test_poisoning,
    test_ranges,
    test_shared_content,
    test_slow_clients,
    test_smuggling,
    test_ssrf,
    test_start,
    test_supply_chain,
    test_upstream_tls,
)
from tests.security.figures import Figure, Row, Scene

ROWS: tuple[Row, ...] = (
    test_ssrf.ROW,
    test_poisoning.ROW,
    test_keys.ROW,
    test_smuggling.ROW,
    test_ranges.ROW,
    test_slow_clients.ROW,
    test_disk_filling.ROW,
    test_memory.ROW,
    test_neighbours.ROW,
    test_descriptors.ROW,
    test_shared_content.PRIVATE,
    test_shared_content.SPELLINGS,
    test_planted.ROW,
    test_logs.ROW,
    test_admin.ROW,
    test_upstream_tls.ROW,
    test_start.ROW,
    test_parsers.ROW,
    test_optimized.ROW,
    test_supply_chain.ROW,
)
_ROW_S = 1500.0
"""No row may take longer; all of them together take far less than an hour."""


async def figure_of(row: Row, *, full: bool) -> Figure:
    """Run one harness in a directory of its own; an error of it is a fault."""
    with tempfile.TemporaryDirectory(prefix="security-") as directory:
        try:
            async with asyncio.timeout(_ROW_S):
                return await row.measure(Scene(Path(directory), full=full))
        except (Exception, ExceptionGroup) as error:
            return Figure(f"not measured: {type(error).__name__}", [f"{type(error).__name__}: {error}"])


def line_of(row: Row, figure: Figure) -> str:
    """A row of the table."""
    cells = (row.attack, row.bar, figure.text, "yes" if figure.within else "NO")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run(rows: list[Row], *, full: bool) -> tuple[str, bool]:
    """All rows one after the other: the table, and whether everything was within its bar."""
    lines = ["| attack | bar | figure | within |", "|---|---|---|---|"]
    faults: list[str] = []
    for row in rows:
        began_s = time.monotonic()
        figure = asyncio.run(figure_of(row, full=full))
        lines.append(line_of(row, figure))
        faults += [f"{row.attack}: {fault}" for fault in figure.faults[:20]]
        print(f"{time.monotonic() - began_s:6.1f} s  {row.attack}", file=sys.stderr, flush=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return "\n".join(lines) + "\n", not faults


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    table, within = run([row for row in ROWS if arguments.only in row.attack], full=not arguments.reduced)
    print(table, end="")
    if arguments.output is not None:
        arguments.output.write_text(table)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
