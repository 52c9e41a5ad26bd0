"""The framing of a bundle: one file that carries objects to a node without a network.

    file head     magic, version, bundle id, public key of the signer (zeros: unsigned)
    per object    section head (lengths, digest, seal), JSON header, piece-hash file, SHA-256 of every piece, body
    contents      JSON list of all sections, digest, seal
    tail          where the contents begin, how long they are, magic: the last bytes of the file

Owns: encoding and decoding of hostile bytes, and what is signed. Pure: reads no file, knows no key. Every number is
little-endian and is checked against the bytes that are there before anything is sized by it. Two things are signed,
each under a domain of its own, so that a signature for one can never pass for the other or for anything else: the
digest of each object's metadata, which binds every byte of the object, and the digest of the contents, which binds the
list. So a bundle that was cut short still yields the objects that are whole.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import msgspec

from cacheserver.core.errors import BundleError
from cacheserver.core.integrity.manifest import HASH_BYTES, MAX_MANIFEST_BYTES

VERSION = 1
ID_BYTES = 16
KEY_BYTES = 32
SEAL_BYTES = 64
UNSIGNED_KEY = bytes(KEY_BYTES)
NO_SEAL = bytes(SEAL_BYTES)
MAX_HEADER_BYTES = 1 << 20
MAX_CONTENTS_BYTES = 1 << 28
MAX_LENGTH_BYTES = 1 << 46
MAX_PIECES = 1 << 22
_OBJECT_DOMAIN = b"cacheserver bundle object v1\0"
_CONTENTS_DOMAIN = b"cacheserver bundle contents v1\0"
_FILE_HEAD = struct.Struct("<8sII16s32s")
_LENGTHS = struct.Struct("<8sIIQQ")
_SECTION_HEAD = struct.Struct(f"<{_LENGTHS.size}s{HASH_BYTES}s{SEAL_BYTES}s")
_TAIL = struct.Struct("<QQ8s")
_FILE_MAGIC, _SECTION_MAGIC, _TAIL_MAGIC = b"CSBUNDLE", b"CSBOBJCT", b"CSBDLEND"
FILE_HEAD_BYTES = _FILE_HEAD.size
SECTION_HEAD_BYTES = _SECTION_HEAD.size
TAIL_BYTES = _TAIL.size
CONTENTS_OVERHEAD_BYTES = HASH_BYTES + SEAL_BYTES


@dataclass(frozen=True, slots=True)
class FileHead:
    """The first bytes of a bundle."""

    bundle_id: bytes
    public_key: bytes

    @property
    def signed(self) -> bool:
        """Whether the bundle claims a signer."""
        return self.public_key != UNSIGNED_KEY

    def encode(self) -> bytes:
        """The bytes."""
        return _FILE_HEAD.pack(_FILE_MAGIC, VERSION, 0, self.bundle_id, self.public_key)


@dataclass(frozen=True, slots=True)
class SectionHead:
    """Lengths, digest and seal of one object's section."""

    header_bytes: int
    phf_bytes: int
    piece_count: int
    body_bytes: int
    digest: bytes = bytes(HASH_BYTES)
    seal: bytes = NO_SEAL

    @property
    def metadata_bytes(self) -> int:
        """Bytes between this head and the body."""
        return self.header_bytes + self.phf_bytes + self.piece_count * HASH_BYTES

    @property
    def section_bytes(self) -> int:
        """Bytes of the whole section."""
        return SECTION_HEAD_BYTES + self.metadata_bytes + self.body_bytes

    def encode(self) -> bytes:
        """The bytes."""
        return _SECTION_HEAD.pack(self._lengths(), self.digest, self.seal)

    def _lengths(self) -> bytes:
        return _LENGTHS.pack(_SECTION_MAGIC, self.header_bytes, self.phf_bytes, self.piece_count, self.body_bytes)

    def digest_of(self, bundle_id: bytes, metadata: bytes) -> bytes:
        """What ``digest`` must be for this metadata in this bundle; binds the body through the piece digests."""
        return hashlib.sha256(_OBJECT_DOMAIN + bundle_id + self._lengths() + metadata).digest()


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the contents."""

    object_id: str
    offset: int
    section_bytes: int
    digest: str
    """Hex of the section's digest."""


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The list of all sections, in the order of the file."""

    created: int
    """Unix seconds."""
    objects: list[Entry]


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the contents are."""

    contents_offset: int
    contents_bytes: int

    def encode(self) -> bytes:
        """The bytes."""
        return _TAIL.pack(self.contents_offset, self.contents_bytes, _TAIL_MAGIC)


def decode_file_head(data: bytes) -> FileHead:
    """Read the first bytes of a file. Raises BundleError."""
    if len(data) != FILE_HEAD_BYTES:
        raise BundleError("the file is too short for a bundle")
    magic, version, reserved, bundle_id, public_key = _FILE_HEAD.unpack(data)
    if magic != _FILE_MAGIC:
        raise BundleError("the file is not a bundle")
    if (version, reserved) != (VERSION, 0):
        raise BundleError(f"the bundle has version {version}, not {VERSION}")
    return FileHead(bundle_id, public_key)


def decode_section_head(data: bytes, *, room_bytes: int) -> SectionHead:
    """Read a section head; the section must fit into ``room_bytes``. Raises BundleError."""
    if len(data) != SECTION_HEAD_BYTES:
        raise BundleError("the section is cut off")
    lengths, digest, seal = _SECTION_HEAD.unpack(data)
    magic, header_bytes, phf_bytes, piece_count, body_bytes = _LENGTHS.unpack(lengths)
    if magic != _SECTION_MAGIC:
        raise BundleError("there is no object here")
    if not 0 < header_bytes <= MAX_HEADER_BYTES or phf_bytes > MAX_MANIFEST_BYTES:
        raise BundleError("the section's lengths are out of bounds")
    if piece_count > MAX_PIECES or body_bytes > MAX_LENGTH_BYTES:
        raise BundleError("the section's lengths are out of bounds")
    head = SectionHead(header_bytes, phf_bytes, piece_count, body_bytes, digest, seal)
    if head.section_bytes > room_bytes:
        raise BundleError("the section is cut off")
    return head


def object_message(digest: bytes) -> bytes:
    """What the signer of an object signs."""
    return _OBJECT_DOMAIN + digest


def contents_message(digest: bytes) -> bytes:
    """What the signer of the contents signs."""
    return _CONTENTS_DOMAIN + digest


def contents_digest(head: FileHead, data: bytes) -> bytes:
    """SHA-256 that stands behind the contents; covers the file head too."""
    return hashlib.sha256(_CONTENTS_DOMAIN + head.encode() + data).digest()


def encode_contents(contents: Contents) -> bytes:
    """The contents as JSON."""
    return msgspec.json.encode(contents)


def decode_tail(data: bytes, *, file_bytes: int) -> Tail:
    """Read the last bytes of a file of ``file_bytes``. Raises BundleError."""
    if len(data) != TAIL_BYTES:
        raise BundleError("the file has no end")
    offset, size, magic = _TAIL.unpack(data)
    if magic != _TAIL_MAGIC:
        raise BundleError("the file does not end as a bundle does: it is cut off, or something was added")
    if size > MAX_CONTENTS_BYTES or offset + size + CONTENTS_OVERHEAD_BYTES + TAIL_BYTES != file_bytes:
        raise BundleError("the end of the file contradicts its length")
    return Tail(offset, size)


def decode_contents(data: bytes, *, contents_offset: int) -> Contents:
    """Read contents whose sections must lie back to back up to ``contents_offset``. Raises BundleError."""
    try:
        contents = msgspec.json.decode(data, type=Contents)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BundleError("the table of contents does not decode") from exc
    offset = FILE_HEAD_BYTES
    for entry in contents.objects:
        if entry.offset != offset or entry.section_bytes < SECTION_HEAD_BYTES:
            raise BundleError("the table of contents does not fit the file")
        offset += entry.section_bytes
    if offset != contents_offset:
        raise BundleError("the table of contents does not fit the file")
    return contents
