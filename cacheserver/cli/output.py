"""What every command says in the same way: lines on stderr and exit codes."""

from __future__ import annotations

from typing import Final

import click

from cacheserver.logs.events import printable

EXIT_FAILED: Final = 1
"""Trouble at run time."""
EXIT_USAGE: Final = 2
"""A wrong setting or flag."""
EXIT_FOUND: Final = 3
"""The command ran and found something wrong."""


def tell(line: str) -> None:
    """One line on stderr."""
    click.echo(f"cacheserver: {printable(line)}", err=True)
