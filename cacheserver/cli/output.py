"""How every command speaks: lines on stdout and stderr, exit codes.

Owns: the rule that nothing which came from a file, a peer or the command line reaches a terminal as it is. Commands
print through ``say`` and ``tell`` alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click

from cacheserver.core.errors import ConfigError, MalformedRequest
from cacheserver.logs.events import printable

EXIT_FAILED: Final = 1
"""Trouble at run time."""
EXIT_USAGE: Final = 2
"""A wrong setting or flag."""
EXIT_FOUND: Final = 3
"""The command ran and found something wrong."""
_UNSAFE: Final = re.compile(r"[^ -~]")
_UNSAFE_IN_LINES: Final = re.compile(r"\r(?!\n)|[^\r\n -~]")


@contextmanager
def config_errors(where: str, *, key: str = "") -> Iterator[None]:
    """Raise ConfigError, with a flag or file in ``where``, for a ValueError or MalformedRequest of the block."""
    try:
        yield
    except (ValueError, MalformedRequest) as exc:
        raise ConfigError(str(exc), where=where, key=key) from exc


def say(text: str, *, end: str = "\n", err: bool = False, lines: bool = False) -> None:
    """One line on stdout (``err``: stderr), control and non-ASCII characters escaped.

    ``lines``: the text has lines of its own, which this program has made; their ends stay.
    """
    unsafe = _UNSAFE_IN_LINES if lines else _UNSAFE
    click.echo(unsafe.sub(lambda found: ascii(found[0])[1:-1], text) + end, nl=False, err=err)


def say_json(facts: Mapping[str, Any], *, indent: int | None = None) -> None:
    """One JSON object on stdout."""
    say(json.dumps(facts, ensure_ascii=True, indent=indent), lines=True)


def tell(line: str) -> None:
    """One line on stderr."""
    say(f"cacheserver: {printable(line)}", err=True)
