"""The operator's content catalogue: what contents must be, in one signed JSON file.

Owns: the file's grammar, the exact bytes that its signature covers, and look-ups. Must not touch files or keys:
signing and checking are ``trust.signing``. A document that came out of ``parse_catalogue`` is well-formed, and every
value in it has one spelling, so any changed byte that keeps the file well-formed changes what the signature covers.

Signed bytes, version 1: the ASCII line ``cacheserver content catalogue 1`` and a line feed, then JSON of the object
with the members ``entries``, ``expires``, ``issued`` and ``version``: names sorted by code point, no white space,
absent members left out, entries in the file's order, integers in decimal, and every character outside of printable
ASCII (none occurs in a well-formed document) escaped as ``\\uXXXX``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from cacheserver.core.errors import CatalogueError, MalformedRequest
from cacheserver.core.integrity.digest_text import from_base64, from_hex
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.request.keys import canonical_target, content_name, key_host
from cacheserver.core.request.target import Target
from cacheserver.core.strict_json import strict_json

MAX_CATALOGUE_BYTES: Final = 32 << 20
"""About 100,000 entries."""
MAX_CONTENT_BYTES: Final = 1 << 46
_DOMAIN: Final = b"cacheserver content catalogue 1\n"
_ISSUED: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`\Z")
_BASE64_32: Final = ("hash_of_hashes", "pieces_hash_digest")
_HEX: Final = {"sha256": 32, "sha1": 20}

Subject = tuple[str, str, str]
"""``("path", host or "", path)`` or ``("id", "", guid)``: what an entry speaks of."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one content must be. Exactly one of ``path`` and ``id``; at least one digest."""

    length: Annotated[int, Meta(ge=0, le=MAX_CONTENT_BYTES)]
    path: str | None = None
    """Canonical path, with the query where it is part of the cache key."""
    id: str | None = None
    """Lower-case GUID that is the last segment of the content's path, on whatever host."""
    host: str | None = None
    """Canonical host, with ``path`` only; None: that path on every host that has no entry of its own."""
    hash_of_hashes: str | None = None
    pieces_hash_digest: str | None = None
    """Both SHA-256 in canonical base64."""
    sha256: str | None = None
    sha1: str | None = None
    """Both of the whole content, in lower-case hex."""

    @property
    def subject(self) -> Subject:
        """What the entry speaks of."""
        return ("id", "", self.id) if self.id is not None else ("path", self.host or "", self.path or "")

    @property
    def claim(self) -> Claim:
        """The entry as a claim; authentic only if the document's signature was checked."""
        return Claim(
            anchor="catalogue",
            authentic=True,
            length_bytes=self.length,
            hash_of_hashes=None if self.hash_of_hashes is None else from_base64(self.hash_of_hashes, 32),
            manifest_digest=None if self.pieces_hash_digest is None else from_base64(self.pieces_hash_digest, 32),
            sha256=None if self.sha256 is None else from_hex(self.sha256, 32),
            sha1=None if self.sha1 is None else from_hex(self.sha1, 20),
        )


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An Ed25519 signature (RFC 8032) over ``sign_bytes``, and the key that made it; both base64."""

    alg: Literal["Ed25519"]
    key: str
    value: str


class CatalogueDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One catalogue file. ``signature`` is None until it is signed."""

    version: Literal[1]
    issued: str
    """UTC, ``YYYY-MM-DDThh:mm:ssZ`` (RFC 3339)."""
    entries: tuple[Entry, ...]
    expires: str | None = None
    """The same form: from then on the catalogue says nothing; None: it never expires."""
    signature: Signature | None = None


def parse_catalogue(data: bytes) -> CatalogueDocument:
    """Parse a catalogue file and check every value; the signature's form too, but not whether it is right.

    Raises CatalogueError, with one line of reason, for anything else.
    """
    if len(data) > MAX_CATALOGUE_BYTES:
        raise CatalogueError(f"catalogue is larger than {MAX_CATALOGUE_BYTES >> 20} MiB")
    try:
        document = msgspec.convert(strict_json(data), CatalogueDocument)
    except msgspec.ValidationError as exc:
        message = str(exc)
        place = _PLACE.search(message)
        fault = ascii(_PLACE.sub("", message).replace("`", "")[:120])[1:-1]
        raise CatalogueError(f"catalogue{' at ' + place[1] if place and place[1] else ''}: {fault}") from exc
    except ValueError as exc:
        raise CatalogueError(f"catalogue {exc}") from exc
    check_document(document)
    return document


def check_document(document: CatalogueDocument) -> None:
    """Check everything that types cannot say. Raises CatalogueError."""
    for name, text in (("issued", document.issued), ("expires", document.expires)):
        try:
            if text is not None and not _ISSUED.fullmatch(text):
                raise ValueError("is not YYYY-MM-DDThh:mm:ssZ")
            if text is not None:
                datetime.fromisoformat(text)
        except ValueError as exc:
            raise CatalogueError(f"catalogue's {name} {exc}") from exc
    if document.expires is not None and document.expires <= document.issued:
        raise CatalogueError("catalogue's expires is not after its issued")
    seen: dict[Subject, int] = {}
    for number, entry in enumerate(document.entries):
        if (fault := _entry_fault(entry)) is not None:
            raise CatalogueError(f"catalogue entry {number}: {fault}")
        first = seen.setdefault(entry.subject, number)
        if document.entries[first] != entry:
            raise CatalogueError(f"catalogue entries {first} and {number} contradict each other")
    if document.signature is not None:
        for name, size_bytes in (("key", 32), ("value", 64)):
            try:
                from_base64(getattr(document.signature, name), size_bytes)
            except ValueError as exc:
                raise CatalogueError(f"catalogue's signature: {name} {exc}") from exc


def refusal(document: CatalogueDocument, *, taken: str | None = None, now_s: float) -> str:
    """Why a well-signed document is not used at this Unix time; empty where it is.

    ``taken``: time of issue of the newest one that was used in its place before.
    """
    if document.expires is not None and datetime.fromisoformat(document.expires).timestamp() <= now_s:
        return f"it has expired at {document.expires}"
    if taken is not None and document.issued < taken:
        return f"it was issued at {document.issued}, before the one of {taken} that was taken already"
    return ""


def sign_bytes(document: CatalogueDocument) -> bytes:
    """The bytes that the signature covers, as the module's text defines them."""
    signed: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(document, signature=None))
    text = json.dumps(signed, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return _DOMAIN + text.encode("ascii")


def render_catalogue(document: CatalogueDocument) -> bytes:
    """The file, indented for people."""
    return (json.dumps(msgspec.to_builtins(document), indent=1) + "\n").encode("ascii")


class ContentCatalogue:
    """Entries of several checked documents, by what they speak of.

    Raises CatalogueError where two documents contradict each other.
    """

    def __init__(self, documents: Iterable[CatalogueDocument] = ()) -> None:
        self._entries: dict[Subject, Entry] = {}
        for document in documents:
            for entry in document.entries:
                if self._entries.setdefault(entry.subject, entry) != entry:
                    raise CatalogueError(f"two catalogues contradict each other about {entry.path or entry.id}")

    def __len__(self) -> int:
        return len(self._entries)

    def claims(self, target: Target) -> tuple[Claim, ...]:
        """What the entries say of ``target``: by its path on its host (that of the cache key first, then the one
        asked for, then any host), and by the GUID at the path's end."""
        try:
            name = content_name(target)
        except MalformedRequest:
            return ()
        hosts = (key_host(target.service, target.host), target.host, "")
        by_path = (self._entries.get(("path", host, name)) for host in hosts)
        last_segment = name.partition("?")[0].rpartition("/")[2].lower()
        by_id = self._entries.get(("id", "", last_segment))  # not /<guid>/pieceshash: files below it are other contents
        found = (next((entry for entry in by_path if entry is not None), None), by_id)
        return tuple(dict.fromkeys(entry.claim for entry in found if entry is not None))


def _entry_fault(entry: Entry) -> str | None:
    if (entry.path is None) == (entry.id is None):
        return "needs either a path or an id"
    if entry.id is not None and not _GUID.fullmatch(entry.id):
        return "id is not a lower-case GUID"
    if entry.host is not None and (entry.path is None or not _is_canonical_host(entry.host)):
        return "host is not a lower-case host name beside a path"
    if entry.path is not None and not _is_canonical_path(entry.path):
        return "path is not in canonical form"
    digests = [(name, from_base64, 32) for name in _BASE64_32] + [(name, from_hex, size) for name, size in _HEX.items()]
    stated = [(name, read, size) for name, read, size in digests if getattr(entry, name) is not None]
    for name, read, size_bytes in stated:
        try:
            read(getattr(entry, name), size_bytes)
        except ValueError as exc:
            return f"{name} {exc}"
    return None if stated else "has no digest"


def _is_canonical_host(text: str) -> bool:
    try:
        authority = parse_authority(text)
    except MalformedRequest:
        return False
    return authority.port is None and authority.host == text


def _is_canonical_path(text: str) -> bool:
    try:
        canonical = canonical_target(text)
    except MalformedRequest:
        return False
    return text == (canonical.path if canonical.query is None else f"{canonical.path}?{canonical.query}")
