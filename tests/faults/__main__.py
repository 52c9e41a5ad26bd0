"""``python -m tests.faults``: every harness in full size, one table; exit code 1 where a figure misses its bar."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click

from tests.faults.figures import Figure, Harness, Size, table
from tests.faults.harnesses import HARNESSES


def measured(name: str, harness: Harness, size: Size) -> list[Figure]:
    """The figures of one harness; a harness that breaks is a row that is not within its bar."""
    began_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            figures = asyncio.run(harness(Path(directory), size))
    except Exception as exc:
        traceback.print_exc()
        figures = [Figure(name, "runs to its end", f"{type(exc).__name__}: {exc}"[:120], False)]
    print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return figures


@click.command()
@click.option("--reduced", is_flag=True, help="The sizes of the test suite.")
@click.argument("names", nargs=-1, type=click.Choice(list(HARNESSES)))
def main(*, reduced: bool, names: tuple[str, ...]) -> None:
    """Run the harnesses NAMES, or all, and print one table."""
    size = Size.REDUCED if reduced else Size.FULL
    figures = [row for name in names or HARNESSES for row in measured(name, HARNESSES[name], size)]
    print(table(figures))
    sys.exit(0 if all(row.within for row in figures) else 1)


if __name__ == "__main__":
    main()
