"""The JSON header of one object in a bundle: everything about it but its bytes, as hostile text.

Owns: representation ↔ JSON, and the checks that let a foreign header become a representation of this node. Nothing that
it says becomes a file name: the object id must be the one that follows from the key. Pure.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from cacheserver.bundle.format import MAX_LENGTH_BYTES, SectionHead
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.stored_header import RepresentationFacts, facts_of
from cacheserver.core.errors import BundleError, MalformedRequest, ManifestError
from cacheserver.core.http.conditional import is_entity_tag
from cacheserver.core.http.field_rules import is_field_value, is_token, storable_fields
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.manifest import HASH_BYTES, Manifest, parse_manifest
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.request.keys import canonical_target, object_id

_MIN_PIECE_BYTES, _MAX_PIECE_BYTES = 1 << 16, 1 << 24
_KEY_LINES = 5
_MAX_KEY_CHARS = 1 << 16
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_ORIGIN = re.compile(r"https?://([^/?#@]+)")
_SERVICE = re.compile(r"[\x21-\x7e]{1,255}")


class _Header(RepresentationFacts, kw_only=True, frozen=True, forbid_unknown_fields=True):
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH_BYTES)]
    piece_size: Annotated[int, msgspec.Meta(ge=_MIN_PIECE_BYTES, le=_MAX_PIECE_BYTES)]
    trust: Annotated[int, msgspec.Meta(ge=0, le=int(max(Trust)))]
    phf_sha256: str | None
    """Base64; of the rebuilt piece-hash file (PiecesHashDigest)."""


@dataclass(frozen=True, slots=True)
class BundledObject:
    """One object as its metadata describes it: self-consistent, and nothing is said of its body yet."""

    representation: Representation
    digests: bytes
    """SHA-256 of every piece, one after the other."""
    manifest: Manifest | None
    """The rebuilt piece-hash file; None where the piece size is not the one that services use."""

    def digest(self, piece: int) -> bytes:
        """SHA-256 of one piece."""
        return self.digests[piece * HASH_BYTES : (piece + 1) * HASH_BYTES]

    @property
    def phf(self) -> bytes:
        """The rebuilt piece-hash file, byte for byte; empty where there is none."""
        return b"" if self.manifest is None else self.manifest.render()

    def believed(self, *, signed: bool) -> Representation:
        """The representation with the trust that it has here.

        A trusted signature anchors every byte; without one the bundle came over an unauthenticated way, and nothing
        that it says can lift the object above self-consistent.
        """
        trust = Trust.ANCHORED if signed else min(self.representation.trust, Trust.SELF_CONSISTENT)
        hashes = None if self.manifest is None else self.manifest.hash_of_hashes.hex()
        return replace(self.representation, trust=trust, hash_of_hashes=hashes)


def encode_header(bundled: BundledObject) -> bytes:
    """The JSON header."""
    digest = None if bundled.manifest is None else to_base64(bundled.manifest.digest)
    return msgspec.json.encode(_Header(**facts_of(bundled.representation), phf_sha256=digest))


def decode_metadata(head: SectionHead, metadata: bytes) -> BundledObject:
    """Read the metadata of a section: header, piece-hash file, digests. Raises BundleError with one line."""
    header_stop = head.header_bytes
    phf_stop = header_stop + head.phf_bytes
    if len(metadata) != head.metadata_bytes:
        raise BundleError("the metadata is cut off")
    try:
        header = msgspec.json.decode(metadata[:header_stop], type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BundleError("the header does not decode") from exc
    if header.piece_size & (header.piece_size - 1):
        raise BundleError("the piece size is not a power of two")
    if head.body_bytes != header.length or head.piece_count != -(-header.length // header.piece_size):
        raise BundleError("the lengths contradict one another")
    digests = metadata[phf_stop:]
    manifest = _manifest(header, metadata[header_stop:phf_stop], digests)
    return BundledObject(_representation(header), digests, manifest)


def _manifest(header: _Header, phf: bytes, digests: bytes) -> Manifest | None:
    if not phf and header.phf_sha256 is None:
        return None
    if header.phf_sha256 != to_base64(hashlib.sha256(phf).digest()):
        raise BundleError("the piece-hash file does not match its digest")
    try:
        manifest = parse_manifest(phf, length_bytes=header.length)
    except ManifestError as exc:
        raise BundleError(f"the piece-hash file: {exc}") from exc
    if manifest.render() != phf or (manifest.piece_size_bytes, manifest.piece_hashes) != (header.piece_size, digests):
        raise BundleError("the piece-hash file contradicts the digests of the pieces")
    return manifest


def _representation(header: _Header) -> Representation:
    _check_key(header)
    _check_source(header)
    _check_fields(header)
    return header.representation()


def _check_key(header: _Header) -> None:
    lines = header.key.split("\n")
    if len(header.key) > _MAX_KEY_CHARS or not all(_PRINTABLE.fullmatch(line) for line in lines):
        raise BundleError("the key holds forbidden characters")
    if len(lines) != _KEY_LINES + bool(header.vary) or lines[0] != header.service:
        raise BundleError("the key is not of the expected form")
    if not _SERVICE.fullmatch(header.service) or (lines[4] and not lines[4].startswith("?")):
        raise BundleError("the key is not of the expected form")
    try:
        parse_authority(lines[2])
        if canonical_target(lines[3]).path != lines[3]:
            raise BundleError("the key's path is not canonical")
    except MalformedRequest as exc:
        raise BundleError(f"the key: {exc}") from exc
    if header.object_id != object_id(header.key):
        raise BundleError("the object id is not the key's")


def _check_source(header: _Header) -> None:
    found = _ORIGIN.fullmatch(header.origin)
    try:
        if found is None:
            raise BundleError("the origin is not scheme://host")
        parse_authority(found[1])
        if header.path_and_query:
            canonical_target(header.path_and_query)
    except MalformedRequest as exc:
        raise BundleError(f"the origin: {exc}") from exc
    for time_s in (header.request_time, header.response_time):
        if not math.isfinite(time_s) or not 0 <= time_s < 1 << 40:
            raise BundleError("a time is out of bounds")


def _check_fields(header: _Header) -> None:
    fields = Fields(header.fields)
    if storable_fields(fields) != fields:
        raise BundleError("a field is none that is stored with an object")
    if header.etag is not None and not is_entity_tag(header.etag):
        raise BundleError("the entity tag is malformed")
    if header.last_modified is not None and not is_field_value(header.last_modified):
        raise BundleError("the modification date is malformed")
    if not all(is_token(name) and name == name.lower() for name in header.vary):
        raise BundleError("a selecting field is malformed")


def shown_name(representation: Representation) -> str:
    """``host/path`` of an object, for messages and selections."""
    lines = representation.key.split("\n")
    return f"{lines[2]}{lines[3]}"
