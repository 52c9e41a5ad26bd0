"""``cacheserver log summary``: what an access log says, as tables.

Owns: the command line, opening of log files (plain or gzip), and the tables. Counting is ``logs.summary``'s.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import click

from cacheserver.cli.options import CONFIG, JSON, config_is_named
from cacheserver.cli.output import config_errors, say, say_json, tell
from cacheserver.core.units import format_size, several
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, load_settings
from cacheserver.system.regular_file import open_regular

if TYPE_CHECKING:
    from cacheserver.logs.summary import Names, Summary, Sums

_GZIP_MAGIC: Final = b"\x1f\x8b"
_LINE_LIMIT_BYTES: Final = 1 << 16
_ROWS: Final = 20


@click.group("log")
def log_group() -> None:
    """The access log, read after the fact."""


@log_group.command("summary")
@click.argument("files", nargs=-1, metavar="[FILE...|-]")
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    metavar="NAME=CIDR",
    help="Name a block of client addresses, instead of [[subnets]] of the settings; may be repeated, for one name too. "
    "Without either /24 and /64 are shown.",
)
@click.option(
    "--top", type=click.IntRange(0, 1000), default=10, show_default=True, metavar="NUMBER", help="Objects to list."
)
@CONFIG
@JSON
def summary_command(
    files: tuple[str, ...], subnets: tuple[str, ...], top: int, config: str | None, as_json: bool
) -> int:
    """Sum up access logs in JSON form: by service, client subnet, outcome and hour, and the top objects.

    FILE may be rotated and compressed with gzip; - or nothing is standard input. Lines that are no answers, such as
    events in the same stream and a torn last line, are counted and passed over.
    """
    from cacheserver.logs.summary import Summary

    summary = Summary(_names(config, subnets))
    for name in files or ("-",):
        _read(name, summary)
    if as_json:
        say_json(summary.as_json(top))
    else:
        _print(summary, top)
    return 0


def _names(config: str | None, texts: tuple[str, ...]) -> Names:
    """Of the flags, else of the settings, unless nobody named these and this user may not read them."""
    from cacheserver.core.request.subnets import Subnets
    from cacheserver.logs.summary import Names

    groups: list[tuple[str, tuple[str, ...]]] = []
    for text in texts:
        name, equals, block = text.partition("=")
        with config_errors(f"--subnet: {printable(text, 80)}"):
            if not equals or not name:
                raise ValueError("is not NAME=CIDR")
            groups.append((printable(name, 80), (block,)))
            Subnets(groups)
    if not texts and config is not None and (config_is_named() or os.access(config, os.R_OK)):
        groups = [(group.name, group.networks) for group in load_settings(config, Flags()).subnets]
    return Names(Subnets(groups) if groups else None)


# -- reading --------------------------------------------------------------------------------------------------------


def _read(name: str, summary: Summary) -> None:
    with contextlib.nullcontext(sys.stdin.buffer) if name == "-" else open(open_regular(name), "rb") as stream:
        assert isinstance(stream, io.BufferedReader)
        if stream.peek(2)[:2] != _GZIP_MAGIC:
            summary.add_lines(_lines(stream))
            return
        try:
            with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
                summary.add_lines(_lines(unpacked))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            shown = "standard input" if name == "-" else printable(name, 300)
            tell(f"{shown}: damaged or cut off; what came before it is counted")
            summary.other_lines += 1


def _lines(stream: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    """Lines of bounded length: of a longer one only its first part, which is no JSON."""
    inside = False
    while part := stream.readline(_LINE_LIMIT_BYTES):
        ended = part.endswith(b"\n")
        if not inside:
            yield part
        inside = not ended


# -- printing -------------------------------------------------------------------------------------------------------


def _print(summary: Summary, top: int) -> None:
    total = summary.total
    answers = several(total.requests, "answer")
    say(
        f"{answers}, {format_size(total.body_bytes)}, {_ratio(total)} of the bytes from the cache"
        + (f"; {summary.first} to {summary.last}" if summary.first else "")
    )
    if summary.other_lines:
        say(f"no answers of the access log: {several(summary.other_lines, 'line')}")
    for title, table in (
        ("service", summary.services),
        ("subnet", summary.subnets),
        ("outcome", summary.outcomes),
    ):
        by_bytes = sorted(table.rows.items(), key=lambda item: (-item[1].body_bytes, -item[1].requests, item[0]))
        _print_table(title, by_bytes[:_ROWS], len(by_bytes) - _ROWS)
    by_time = sorted(summary.hours.rows.items())
    _print_table("hour", by_time[-48:], len(by_time) - 48)
    objects = summary.objects.largest(top)
    if objects:
        say("")
        say(f"{'bytes':>10} {'requests':>10}  object" + ("" if summary.objects.exact else " (approximate)"))
    for name, size, requests in objects:
        say(f"{format_size(size):>10} {requests:>10}  {printable(name, 300)}")


def _print_table(title: str, rows: Iterable[tuple[str, Sums]], left_out: int) -> None:
    shown = [(printable(name, 60), sums) for name, sums in rows]
    if not shown:
        return
    width = max(len(title), *(len(name) for name, _ in shown))
    say("")
    say(f"{title:<{width}} {'requests':>10} {'bytes':>10} {'hits':>7}")
    for name, sums in shown:
        say(f"{name:<{width}} {sums.requests:>10} {format_size(sums.body_bytes):>10} {_ratio(sums):>7}")
    if left_out > 0:
        say(f"and {left_out} more")


def _ratio(sums: Sums) -> str:
    return "-" if sums.hit_ratio is None else f"{sums.hit_ratio * 100:.1f}%"
