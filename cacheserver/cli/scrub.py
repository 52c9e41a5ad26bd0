"""``cacheserver scrub`` and ``cacheserver verify``: stored bytes held against their digests, from a shell.

Owns: the command line of both. A running node does the work itself, over its admin API; a stopped node's objects are
read here, off its locked volumes.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Final

import click
import msgspec

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.options import NodeFlags, config_is_named, with_client, with_node
from cacheserver.cli.output import EXIT_FAILED, EXIT_FOUND, say, tell
from cacheserver.core.errors import ConfigError, CorruptObject, DiskError, PieceMismatch
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.keys import is_object_id
from cacheserver.core.units import format_size, several
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, load_settings
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.layout import MOST_PIECES
from cacheserver.store.options import StoreOptions, VolumeOptions

_POLL_S: Final = 0.25


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Pass(msgspec.Struct):
    running: bool
    paused: bool
    failed: bool
    pieces_total: _Count
    pieces_checked: _Count
    bytes_checked: _Count
    bad: _Count
    unreadable: _Count


class _Paced(_Pass):
    enabled: bool
    days: float


class _Scrub(msgspec.Struct):
    number: int
    now: _Pass
    paced: _Paced
    last_complete: Annotated[float, msgspec.Meta(ge=0, le=2**40)]


class _BadPiece(msgspec.Struct):
    piece: int
    found: str


class _Verified(msgspec.Struct):
    object_id: str
    checked: _Count
    bad: list[_BadPiece]
    next_piece: Annotated[int, msgspec.Meta(ge=0, lt=MOST_PIECES)] | None


@click.command("scrub")
@click.option("--now", is_flag=True, help="Have everything read again at once, and wait for the outcome.")
@with_client
def scrub_command(now: bool, client: AdminClient) -> int:
    """Have a running node hold all stored pieces against their digests, or tell what its scrubber has found.

    With --now a pass over everything begins (or the one that was asked for before goes on) and is followed to its end;
    interrupting the command does not interrupt the node. Bad pieces go to quarantine and are fetched again on demand.

    Exit codes: 0 clean, 1 no node answers or a volume failed, 2 wrong usage, 3 bad pieces were found.
    """
    if not now:
        progress = client.get("/api/v1/scrub", _Scrub)
        say(_paced_line(progress))
        part = progress.now if progress.number else progress.paced
        return EXIT_FOUND if part.bad or part.unreadable else 0
    part = _followed(client, client.post("/api/v1/scrub", {}, _Scrub))
    say(
        f"scrub: {several(part.pieces_checked, 'piece')}, {format_size(part.bytes_checked)} read; "
        f"{part.bad} bad, {part.unreadable} unreadable"
    )
    if part.bad or part.unreadable:
        return EXIT_FOUND
    if part.failed:
        tell("a volume could not be read to its end")
        return EXIT_FAILED
    return 0


def _followed(client: AdminClient, progress: _Scrub) -> _Pass:
    """The numbers of the pass at its end, shown on the way."""
    with click.progressbar(length=max(1, progress.now.pieces_total), label="scrub", file=sys.stderr) as bar:
        while True:
            part = progress.now
            bar.length = max(1, part.pieces_total, part.pieces_checked)
            bar.label = "scrub (clients first)" if part.paused else "scrub"
            bar.update(max(0, part.pieces_checked - bar.pos))
            if not part.running:
                return part
            time.sleep(_POLL_S)
            progress = client.get("/api/v1/scrub", _Scrub)


def _paced_line(progress: _Scrub) -> str:
    paced, last_s = progress.paced, progress.last_complete
    last = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last_s)) if last_s else "never"
    state = "paused" if paced.paused else "running" if paced.running else "at rest"
    if not paced.enabled:
        state = "off"
    return (
        f"scrubber {state}, everything in {paced.days:g} days, last complete {last}; since then "
        f"{paced.pieces_checked} of about {paced.pieces_total} pieces, {paced.bad} bad, "
        f"{paced.unreadable} unreadable"
    )


# -- verify ---------------------------------------------------------------------------------------------------------


@click.command("verify")
@click.argument("what", metavar="[PATH|URL]", required=False)
@click.option("--cache-dir", metavar="DIR", help="Verify the volume in DIR, as PATH does.")
@with_node
def verify_command(what: str | None, cache_dir: str | None, node: NodeFlags) -> int:
    """Hold one object, or everything in a stopped node's cache, against its recorded digests.

    PATH is an object file, or a cache directory whose node does not run; --config without PATH means all volumes of
    these settings. URL is asked of a running node, which takes bad pieces out of service. Nothing else changes
    anything. One line is printed for each bad piece.

    Exit codes: 0 all good, 1 nothing there or no node answers, 2 wrong usage, 3 bad pieces were found.
    """
    asked = what is not None and "://" in what
    if sum((what is not None, cache_dir is not None, config_is_named() and not asked)) != 1:
        raise click.UsageError("name one of PATH, URL, --cache-dir and --config")
    if what is not None and asked:
        report = _verify_url(node.client(), what)
    elif what is not None and not os.path.isdir(what):
        report = _Report()
        _verify_file(what, report)
    elif directory := what or cache_dir:
        report = _verify_volumes(_one_volume(directory))
    else:
        report = _verify_volumes(load_settings(node.config, Flags()).store)
    say(f"verified: {several(report.objects, 'object')}, {several(report.pieces, 'piece')}; {report.bad} bad")
    return EXIT_FOUND if report.bad else 0


@dataclass(slots=True)
class _Report:
    objects: int = 0
    pieces: int = 0
    bad: int = 0

    def found(self, line: str) -> None:
        """Tell of one bad piece or object."""
        self.bad += 1
        say(f"bad: {printable(line)}")


def _verify_url(client: AdminClient, url: str) -> _Report:
    report, piece = _Report(objects=1), 0
    while True:
        part = client.post("/api/v1/verify", {"url": url, "first_piece": piece}, _Verified)
        report.pieces += part.checked
        for bad in part.bad:
            report.found(f"{part.object_id} piece {bad.piece}: {bad.found}")
        if part.next_piece is None:
            return report
        if part.next_piece <= piece:
            raise click.ClickException("the object was replaced while it was verified; verify it again")
        piece = part.next_piece


def _one_volume(directory: str) -> StoreOptions:
    if not os.path.isdir(os.path.join(directory, "objects")):
        raise ConfigError(f"{printable(directory, 200)} is no cache directory: it holds no objects/")
    return StoreOptions(volumes=(VolumeOptions(path=os.path.abspath(directory)),))


def _verify_volumes(store: StoreOptions) -> _Report:
    from cacheserver.bundle.volumes import opened_volumes, stored_ids

    report = _Report()
    with opened_volumes(store) as volumes:
        paths = [volume.path_of(object_id) for volume in volumes for object_id in stored_ids(volume)]
        with click.progressbar(paths, label="verify", file=sys.stderr) as bar:
            for path in bar:
                _verify_file(path, report)
    return report


def _verify_file(path: str, report: _Report) -> None:
    """Check one object file. Raises DiskError where there is none."""
    name = os.path.basename(path)
    try:
        file = ObjectFile.open(path)
    except CorruptObject as exc:
        report.found(f"{name}: no object file: {exc}")
        return
    if file is None:
        raise DiskError(f"no such file: {printable(path, 200)}")
    report.objects += 1
    with closing(file):
        if is_object_id(name) and file.representation.object_id != name:
            report.found(f"{name}: describes itself as {file.representation.object_id}")
        for piece in range(len(file.pieces)):
            if file.pieces.state(piece) == ABSENT:
                continue
            report.pieces += 1
            try:
                file.check_piece(piece)
            except PieceMismatch:
                report.found(f"{name} piece {piece}: bad")
            except DiskError as exc:
                report.found(f"{name} piece {piece}: unreadable: {exc}")
