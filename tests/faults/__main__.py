"""``python -m tests.faults``: every harness in full size, one table; exit code 1 where a figure misses its bar."""

from __future__ import annotations

import sys

import click

from tests.faults.figures import Size, table
from tests.faults.harnesses import HARNESSES
from tests.faults.measuring import all_measured


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
