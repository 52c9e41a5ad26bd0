"""What every command says in the same way: lines on stderr and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from cacheserver.core.errors import ConfigError, MalformedRequest
from cacheserver.logs.events import printable

EXIT_FAILED: Final = 1
"""Trouble at run time."""
EXIT_USAGE: Final = 2
"""A wrong setting or flag."""
EXIT_FOUND: Final = 3
"""The command ran and found something wrong."""


@contextmanager
def config_errors(where: str, *, key: str = "") -> Iterator[None]:
    """Raise ConfigError, with a flag or file in ``where``, for a ValueError or MalformedRequest of the block."""
    try:
        yield
    except (ValueError, MalformedRequest) as exc:
        raise ConfigError(str(exc), where=where, key=key) from exc


def tell(line: str) -> None:
    """One line on stderr."""
    click.echo(f"cacheserver: {printable(line)}", err=True)
