"""``python -m tests.faults``: every harness in full size, one table; exit code 1 where a figure misses its bar."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from tests.faults.figures import Figure, Size, table
from tests.faults.harnesses import HARNESSES, UNTIMED


def measured(name: str, size: Size) -> list[Figure]:
    """The figures of one harness; a harness that breaks is a row that is not within its bar."""
    began_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            figures = asyncio.run(HARNESSES[name](Path(directory), size))
    except Exception as exc:
        traceback.print_exc()
        figures = [Figure(name, "runs to its end", f"{type(exc).__name__}: {exc}"[:120], False)]
    print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return figures


def all_measured(names: Sequence[str], size: Size) -> list[Figure]:
    """The figures of ``names`` in that order; what needs no quiet machine is done while ``soak`` lasts."""
    beside = [name for name in names if name in UNTIMED and size is Size.FULL and "soak" in names]
    found = {name: measured(name, size) for name in names if name not in beside and name != "soak"}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        later = {name: pool.submit(measured, name, size) for name in beside}
        if "soak" in names:
            found["soak"] = measured("soak", size)
        found |= {name: figures.result() for name, figures in later.items()}
    return [figure for name in names for figure in found[name]]


@click.command()
@click.option("--reduced", is_flag=True, help="The sizes of the test suite.")
@click.argument("names", nargs=-1, type=click.Choice(list(HARNESSES)))
def main(*, reduced: bool, names: tuple[str, ...]) -> None:
    """Run the harnesses NAMES, or all, and print one table."""
    size = Size.REDUCED if reduced else Size.FULL
    figures = all_measured(names or tuple(HARNESSES), size)
    print(table(figures))
    sys.exit(0 if all(row.within for row in figures) else 1)


if __name__ == "__main__":
    main()
