"""``cacheserver catalogue``: make, sign and look into content catalogues.

Owns: these commands and the files they touch. Errors go up as ConfigError, CatalogueError and OSError, which
``cli.main`` turns into one line and an exit code. A catalogue is written beside its old self and then put in its place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from datetime import UTC, datetime
from typing import Final

import click
from msgspec.structs import replace

from cacheserver.cli.changing import changing
from cacheserver.cli.options import with_settings
from cacheserver.cli.output import config_errors, say
from cacheserver.core.errors import CatalogueError, ConfigError
from cacheserver.core.integrity.content_catalogue import (
    CatalogueDocument,
    Entry,
    check_document,
    parse_catalogue,
    refusal,
    render_catalogue,
)
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.request.keys import canonical_target
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, load_settings
from cacheserver.system.atomic_file import write_atomically
from cacheserver.system.place import remove
from cacheserver.system.regular_file import open_regular, read_regular
from cacheserver.trust.catalogue_anchor import read_document
from cacheserver.trust.issued import Issued
from cacheserver.trust.signing import new_private_key, parse_public_key, public_key, sign, verify

PIECE_BYTES: Final = 1 << 20
"""The piece size of Delivery Optimization; the hash of hashes depends on it."""
_KEY_FILE_LIMIT_BYTES: Final = 64 << 10


@click.group("catalogue")
def catalogue_group() -> None:
    """Signed catalogues: what contents must be, stated by the operator."""


@catalogue_group.command("keygen")
@click.argument("key")
def keygen(key: str) -> None:
    """Write a new private key to KEY (mode 0600) and its public key to KEY.pub; neither file may exist."""
    pem = new_private_key()
    public_text = to_base64(public_key(pem))
    for path in (key, f"{key}.pub"):
        if os.path.lexists(path):
            raise ConfigError("is there already", where=printable(path, 300))
    public_pem = f"{public_text}\n".encode("ascii")
    with changing(key):
        write_atomically(key, pem, durable=True, replace=False)
        try:
            write_atomically(f"{key}.pub", public_pem, mode=0o644, durable=True, replace=False)
        except BaseException:
            remove(key)
            raise
    say(public_text)


@catalogue_group.command("sign")
@click.argument("file")
@click.option("--key", required=True, metavar="KEY", help="File of the private key.")
@click.option(
    "--expires", metavar="TIME", help="YYYY-MM-DDThh:mm:ssZ: nodes use FILE until then; without it, for ever."
)
def sign_command(file: str, key: str, expires: str | None) -> None:
    """Sign FILE in place, with the present time as its time of issue."""
    pem = _read_key(key)
    with changing(file):
        document = replace(_read(file), issued=_now(), expires=expires)
        check_document(document)
        signed = sign(document, pem)
        _replace_file(file, render_catalogue(signed))
    say(f"signed: {printable(file, 300)}: {_entries(signed)}, issued {signed.issued}")


@catalogue_group.command("verify")
@click.argument("file")
@click.option(
    "--trusted", required=True, multiple=True, metavar="KEY", help="Public key in base64 or its file; may be repeated."
)
def verify_command(file: str, trusted: tuple[str, ...]) -> None:
    """Check that a trusted key signed FILE, that nothing in it was changed since, and that it has not expired.

    The exit code is 1 where not.
    """
    document = _read(file)
    keys = {_trusted_key(text) for text in trusted}
    try:
        verify(document, keys)
        if reason := refusal(document, now_s=time.time()):
            raise CatalogueError(reason)
    except CatalogueError as exc:
        raise CatalogueError(f"{printable(file, 300)}: {exc}") from exc
    signer = document.signature.key if document.signature is not None else ""
    say(f"ok: {printable(file, 300)}: {_entries(document)}, issued {document.issued}, signed by {signer}")


@catalogue_group.command("add")
@click.argument("file")
@click.option("--path", metavar="PATH", help="Path of the content, with the query where it tells contents apart.")
@click.option("--id", "guid", metavar="GUID", help="GUID at the end of the content's path.")
@click.option("--host", metavar="HOST", help="With --path: on this host alone, after the service's rewrites.")
@click.option("--from-file", "content", required=True, metavar="CONTENT", help="File with the content itself.")
def add_command(file: str, path: str | None, guid: str | None, host: str | None, content: str) -> None:
    """Add an entry for CONTENT to FILE, or replace the one it has; FILE is made if need be, and must then be signed."""
    if (path is None) == (guid is None):
        raise ConfigError("give either --path or --id")
    if host is not None and path is None:
        raise ConfigError("--host needs --path")
    entry = replace(
        _measured(content),
        path=None if path is None else _canonical(path),
        id=None if guid is None else guid.lower(),
        host=None if host is None else host.lower(),
    )
    with changing(file):
        document = _read(file) if os.path.lexists(file) else CatalogueDocument(version=1, issued=_now(), entries=())
        others = tuple(known for known in document.entries if known.subject != entry.subject)
        changed = replace(document, entries=(*others, entry), issued=_now(), signature=None)
        check_document(changed)
        _replace_file(file, render_catalogue(changed))
    say(f"added: {_line(entry)}; {printable(file, 300)} must be signed now")


@catalogue_group.command("list")
@click.argument("file")
def list_command(file: str) -> None:
    """List the entries of FILE, one a line; its signature is not checked."""
    for entry in _read(file).entries:
        say(_line(entry))


@catalogue_group.command("status")
@click.option("--allow-older", is_flag=True, help="Let the node take the older ones at its next reload or start.")
@with_settings
def status_command(config: str | None, flags: Flags, allow_older: bool) -> None:
    """Show whether the node takes the catalogues of its settings: exit 1 where it refuses one, with the reason."""
    settings = load_settings(config, flags)
    issued, refused = Issued(settings.store.volumes[0].path), False
    for path in settings.trust.catalogues:
        document, taken = _read(path), issued.load().get(path)
        reason = refusal(document, taken=taken, now_s=time.time())
        if reason and allow_older and not refusal(document, now_s=time.time()):
            issued.forget(path)
            reason = ""
        refused = refused or bool(reason)
        line = f"refused: {reason}" if reason else "ok"
        say(f"{printable(path, 300)}: {_entries(document)}, issued {document.issued}: {line}")
    if refused:
        raise SystemExit(1)


# -- contents ---------------------------------------------------------------------------------------------------


def _measured(path: str) -> Entry:
    """Length and all digests of the file at ``path``, in pieces of 1 MiB; an empty content has no manifest."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    hashes: list[bytes] = []
    length = 0
    with open(open_regular(path), "rb") as file:
        while piece := file.read(PIECE_BYTES):
            length += len(piece)
            sha256.update(piece)
            sha1.update(piece)
            hashes.append(hashlib.sha256(piece).digest())
    manifest = Manifest(length, PIECE_BYTES, b"".join(hashes)) if length else None
    return Entry(
        length=length,
        hash_of_hashes=None if manifest is None else to_base64(manifest.hash_of_hashes),
        pieces_hash_digest=None if manifest is None else to_base64(manifest.digest),
        sha256=sha256.hexdigest(),
        sha1=sha1.hexdigest(),
    )


def _canonical(path: str) -> str:
    with config_errors("--path"):
        canonical = canonical_target(path)
    return canonical.path if canonical.query is None else f"{canonical.path}?{canonical.query}"


def _line(entry: Entry) -> str:
    names = ("hash_of_hashes", "pieces_hash_digest", "sha256", "sha1")
    stated = " ".join(f"{name}={getattr(entry, name)}" for name in names if getattr(entry, name) is not None)
    return f"{entry.id or (entry.host or '') + (entry.path or '')} {entry.length} {stated}"


def _entries(document: CatalogueDocument) -> str:
    count = len(document.entries)
    return f"{count} entr{'y' if count == 1 else 'ies'}"


# -- files ------------------------------------------------------------------------------------------------------


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(path: str) -> CatalogueDocument:
    try:
        return read_document(path)
    except CatalogueError as exc:
        raise CatalogueError(f"{printable(path, 300)}: {exc}") from exc


def _read_key(path: str) -> bytes:
    try:
        return read_regular(path, _KEY_FILE_LIMIT_BYTES)
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            raise CatalogueError("is too large for a key") from exc
        raise


def _trusted_key(text: str) -> bytes:
    """A public key out of its base64, or out of the file of that name."""
    try:
        return parse_public_key(text)
    except CatalogueError:
        pass
    try:
        return parse_public_key(_read_key(text).decode("ascii"))
    except OSError as exc:
        raise ConfigError(f"neither a key nor a readable file: {exc.strerror}", where="--trusted") from exc
    except (CatalogueError, UnicodeDecodeError) as exc:
        raise ConfigError("not an Ed25519 public key in base64", where=f"--trusted {printable(text, 300)}") from exc


def _replace_file(path: str, data: bytes) -> None:
    """Put ``data`` in the place of the file at ``path``: readers see the old file or the new one, never a part."""
    parse_catalogue(data)  # what cannot be read again is never written
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    write_atomically(path, data, mode=mode, durable=True, suffix=f".{os.getpid()}.new", follow=True)
