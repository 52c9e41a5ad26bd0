"""``cacheserver export`` and ``cacheserver import``: flags to the work, its outcome to lines and an exit code.

Owns: the command line of bundles. The work is ``cacheserver.bundle``, imported only when there is some.
"""

from __future__ import annotations

import time

import click

from cacheserver.cli.options import with_store
from cacheserver.cli.output import EXIT_FAILED, say, tell
from cacheserver.core.errors import BundleError
from cacheserver.core.units import format_size, several
from cacheserver.logs.events import printable
from cacheserver.store.options import StoreOptions


@click.command("export")
@click.argument("selection", nargs=-1, required=True)
@click.argument("bundle")
@with_store
@click.option("--key", metavar="PEM", help="Ed25519 private key to sign with; without it the bundle is unsigned.")
def export_command(selection: tuple[str, ...], bundle: str, store: StoreOptions, key: str | None) -> int:
    """Write objects of a stopped node into the file BUNDLE.

    SELECTION is one or more of: all, a service's name, an object id, a glob over host/path. Only complete objects are
    exported, each piece checked against its recorded digest; each one left out is named on stderr.

    Exit codes: 0 done, 1 nothing was selected or an object is damaged, 2 wrong usage.
    """
    from cacheserver.bundle.exporter import Exporter
    from cacheserver.bundle.keys import load_signing_key
    from cacheserver.bundle.volumes import opened_volumes
    from cacheserver.bundle.writer import BundleWriter

    signing = None if key is None else load_signing_key(key)
    with opened_volumes(store) as volumes, BundleWriter(bundle, signing) as writer:
        report = Exporter(volumes=volumes, writer=writer, tell=tell).export(selection)
        if not report.exported:
            raise BundleError("nothing to export: no complete object is selected")
        size_bytes = writer.finish(created_s=time.time())
    signed = "unsigned" if signing is None else "signed"
    say(
        f"{printable(bundle, 300)}: {several(report.exported, 'object')}, {format_size(size_bytes)}, {signed}; "
        f"left out: {report.incomplete} incomplete, {report.damaged} damaged"
    )
    return EXIT_FAILED if report.damaged else 0


@click.command("import")
@click.argument("bundle")
@with_store
@click.option(
    "--trusted",
    multiple=True,
    metavar="KEY",
    help="Public key of a signer you trust: a PEM file, or base64; may be repeated.",
)
@click.option(
    "--unsigned", is_flag=True, help="Take a bundle without looking at signatures; its objects are not anchored."
)
@click.option("--replace", is_flag=True, help="Replace complete objects of another generation.")
def import_command(bundle: str, store: StoreOptions, trusted: tuple[str, ...], unsigned: bool, replace: bool) -> int:
    """Take the objects of the file BUNDLE into a stopped node's cache.

    Signatures and every piece are verified before an object appears; a damaged one is named on stderr and not imported,
    the others are. Objects of a trusted signer are anchored. Of an object that is there already every piece is read,
    and one that has rotted is repaired.

    Exit codes: 0 all is there, 1 something was damaged or the disk is full, 2 wrong usage.
    """
    if bool(trusted) == unsigned:
        raise click.UsageError("name the signer's key with --trusted, or say --unsigned")
    from cacheserver.bundle.importer import Importer
    from cacheserver.bundle.keys import load_trusted_key
    from cacheserver.bundle.reader import BundleReader
    from cacheserver.bundle.volumes import opened_volumes

    keys = [load_trusted_key(path) for path in trusted]
    with BundleReader(bundle, keys) as reader, opened_volumes(store) as volumes:
        report = Importer(volumes=volumes, reader=reader, replace=replace, tell=tell).run()
    say(
        f"{printable(bundle, 300)}: {several(report.imported, 'object')} imported ({format_size(report.body_bytes)}), "
        f"{report.unchanged} already there, {report.repaired} repaired, {report.kept} kept, {report.damaged} damaged"
    )
    if report.stopped is not None:
        tell(f"stopped at {report.stopped}")
    return EXIT_FAILED if report.damaged or report.stopped is not None else 0
