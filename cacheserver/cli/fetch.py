"""``cacheserver fetch``: flags to a fetch, its progress to the terminal, its outcome to an exit code.

Owns: the command line of the fetch tool. The work is ``cacheserver.fetch``, imported only when there is some.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from click._termui_impl import ProgressBar

import cacheserver
from cacheserver.cli.options import CONNECT_TO, JSON
from cacheserver.cli.output import EXIT_FAILED, config_errors, say, say_json, tell
from cacheserver.core.cache.sources import NODE
from cacheserver.core.errors import CacheserverError, ConfigError, MalformedRequest
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.shown import shown
from cacheserver.core.units import format_size, parse_listen
from cacheserver.fetch.request import FetchRequest, FetchResult
from cacheserver.fetch.sources import manifest_url_of, parse_url, sources_of
from cacheserver.logs.events import printable
from cacheserver.settings.shipped import load_shipped_services

if TYPE_CHECKING:
    from cacheserver.fetch.work import Work

EXIT_CODES: Final = {Trust.ANCHORED: 0, Trust.SELF_CONSISTENT: 3, Trust.SIMPLE: 4}
_WORDS: Final = {
    Trust.ANCHORED: "verified",
    Trust.SELF_CONSISTENT: "only self-consistent: matches a manifest that nothing authentic vouches for",
    Trust.SIMPLE: "unverified: simple mode, no metadata",
}


@click.command("fetch")
@click.argument("url")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the content goes, once it is complete.")
@click.option(
    "--cache-host", "cache_hosts", multiple=True, metavar="HOST[:PORT]", help="Ask this cache node; may be repeated."
)
@click.option("--manifest", metavar="URL|FILE", help="Piece-hash file; without it the service's rule says where.")
@click.option("--hash-of-hashes", metavar="BASE64", help="What the manifest must be, from an authentic place.")
@click.option("--sha256", metavar="HEX", help="What the whole file must be, from an authentic place.")
@click.option(
    "--connections",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="NUMBER",
    help="Pieces in flight at once.",
)
@click.option("--no-origin", is_flag=True, help="Ask the cache hosts only.")
@click.option("--allow-unverified", is_flag=True, help="Exit 0 also where the exit code would be 3 or 4.")
@CONNECT_TO
@click.option("--quiet", is_flag=True, help="No progress bar and no notices.")
@JSON
def fetch_command(url: str, output: str, quiet: bool, as_json: bool, allow_unverified: bool, **flags: Any) -> int:
    """Fetch URL as Delivery Optimization clients do, and verify it.

    Metadata first, its authenticity, then every piece against its hash, from cache hosts before the origin; bad pieces
    are discarded and fetched elsewhere; without metadata simple mode; at the end the whole file. A broken fetch goes on
    where it stopped. Addresses are not vetted: the tool connects to wherever it is sent.

    Exit codes: 0 verified, 1 failed, 2 wrong usage, 3 complete but only self-consistent, 4 complete but unverified.
    """
    from cacheserver.fetch.work import Work

    request = _request(url, output, **flags)
    console = _Console(quiet=quiet, bar=not quiet and not as_json and sys.stderr.isatty())
    work = Work(request, console)
    try:
        with console:
            result = asyncio.run(work.run())
    except CacheserverError as exc:
        if as_json:
            say_json(_facts(request, work, None) | {"exit_code": EXIT_FAILED, "error": str(exc)})
        raise
    code = 0 if allow_unverified else EXIT_CODES[result.trust]
    if as_json:
        say_json(_facts(request, work, result) | {"exit_code": code})
    elif not quiet:
        say(f"{printable(output, 300)}: {format_size(result.length_bytes)}, {_WORDS[result.trust]}")
    return code


def _request(
    url: str,
    output: str,
    *,
    cache_hosts: tuple[str, ...],
    manifest: str | None,
    hash_of_hashes: str | None,
    sha256: str | None,
    connections: int,
    no_origin: bool,
    connect_to: tuple[str, ...],
) -> FetchRequest:
    if no_origin and not cache_hosts:
        raise click.UsageError("--no-origin needs a --cache-host")
    if not os.path.basename(output) or os.path.isdir(output):
        raise click.UsageError("--output names a directory, not a file")
    if os.path.exists(output) and not os.path.isfile(output):
        raise click.UsageError("--output names a device or a pipe, which would be replaced by a file")
    try:
        place = parse_url(url)
        sources = sources_of(place, cache_hosts, origin=not no_origin)
        rule = manifest_url_of(place, load_shipped_services())
        manifest_sources = () if rule is None else sources_of(rule, cache_hosts, origin=not no_origin)
        if manifest is not None and "://" in manifest:
            parse_url(manifest)
    except MalformedRequest as exc:
        raise click.UsageError(str(exc)) from exc
    return FetchRequest(
        url=place,
        output=output,
        sources=sources,
        manifest=manifest,
        manifest_sources=manifest_sources,
        hash_of_hashes=_digest(hash_of_hashes, "--hash-of-hashes"),
        sha256=_digest(sha256, "--sha256"),
        connections=connections,
        connect_to=dict(_address(text) for text in connect_to),
        user_agent=f"cacheserver-fetch/{cacheserver.__version__}",
    )


def _digest(text: str | None, flag: str) -> bytes | None:
    if text is None:
        return None
    try:
        raw = bytes.fromhex(text) if flag == "--sha256" else base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigError("is not a SHA-256 of 32 bytes", where=flag)
    return raw


def _address(text: str) -> tuple[str, tuple[str, int]]:
    host, equals, address = text.partition("=")
    with config_errors("--connect-to"):
        if not host or not equals:
            raise ValueError(f"{shown(text)} is not HOST=ADDR:PORT")
        return host.lower(), parse_listen(address)


def _facts(request: FetchRequest, work: Work, result: FetchResult | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "url": request.url.shown,
        "output": request.output,
        "sources": [
            {
                "source": health.source.origin,
                "kind": "cache_host" if health.source.kind == NODE else "origin",
                "pieces": health.pieces,
                "bytes": health.body_bytes,
                "strikes": health.strikes,
                "banned": health.banned,
            }
            for health in work.sources
        ],
    }
    if result is None:
        return facts
    return facts | {
        "trust": result.trust.word,
        "mode": result.mode,
        "bytes": result.length_bytes,
        "resumed_bytes": result.resumed_bytes,
        "sha256": result.sha256.hex(),
        "hash_of_hashes": to_base64(result.hash_of_hashes),
    }


class _Console:
    """Notices and a progress bar on stderr."""

    def __init__(self, *, quiet: bool, bar: bool) -> None:
        self._quiet = quiet
        self._wants_bar = bar
        self._bar: ProgressBar[int] | None = None

    def __enter__(self) -> _Console:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def notice(self, line: str) -> None:
        """One line on stderr."""
        if not self._quiet:
            if self._bar is not None:
                say("", err=True)
            tell(line)

    def begin(self, length_bytes: int | None, have_bytes: int) -> None:
        """Show a bar for this length."""
        self._end_bar()
        if self._wants_bar and length_bytes:
            self._bar = click.progressbar(length=length_bytes, file=sys.stderr, show_pos=False, show_eta=True)
            self._bar.update(have_bytes)

    def advance(self, size_bytes: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(size_bytes)
