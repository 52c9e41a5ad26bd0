"""How an object file is laid out: body at its own offsets, then a page-aligned footer that describes it.

    body, sparse            bytes [0, length)
    prologue                magic, length, piece size, slot size, generation, CRC
    piece records           one of 40 bytes per piece: state, CRC, SHA-256
    two header slots        the newest valid one counts, so that a torn rewrite loses nothing
    tail                    offset of the prologue and a magic, in the last 16 bytes of the file

Owns the encoding only; reading and writing is ``store.object.file``. Every part carries a CRC, so that a torn 4 KiB
write makes a record or slot invalid, never wrong. All integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

import msgspec

from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.stored_header import RepresentationFacts, facts_of
from cacheserver.core.errors import CorruptObject

PAGE_BYTES = 4096
GENERATION_BYTES = 16
_MAGIC = b"CSOBJ\x00\x00\x01"
_TAIL_MAGIC = b"CSEND\x00\x00\x01"
_SLOT_MAGIC = b"SLOT"
_PROLOGUE = struct.Struct("<8sQII16s")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<B3xI32s")
_SLOT = struct.Struct("<4sIQI")
_TAIL = struct.Struct("<Q8s")
_SLOT_HEADROOM_BYTES = 1024
PROLOGUE_BYTES = _PROLOGUE.size + _CRC.size
RECORD_BYTES = _RECORD.size
TAIL_BYTES = _TAIL.size
MAX_SLOT_BYTES = 1 << 20
MOST_PIECES = 1 << 22
"""Of one object: each has a record that is read when the object is opened, and a byte in memory."""
MOST_EXTENTS = 1 << 16
"""Of one object, numbered in two bytes."""


class _Header(RepresentationFacts, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The JSON in a header slot."""

    hash_of_hashes: str | None = None
    marker: int = 0
    statements: str = ""
    secure: bool = False
    unsettled: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in one object file."""

    length_bytes: int
    piece_size_bytes: int
    slot_bytes: int
    generation: bytes

    @property
    def piece_count(self) -> int:
        """Number of pieces."""
        return -(-self.length_bytes // self.piece_size_bytes)

    @property
    def footer_offset(self) -> int:
        """First byte of the prologue."""
        return on_disk(self.length_bytes)

    def record_offset(self, piece: int) -> int:
        """First byte of one piece's record."""
        return self.footer_offset + PROLOGUE_BYTES + piece * RECORD_BYTES

    def slot_offset(self, slot: int) -> int:
        """First byte of header slot 0 or 1."""
        return self.record_offset(self.piece_count) + slot * self.slot_bytes

    @property
    def file_bytes(self) -> int:
        """Apparent size of the file."""
        return self.slot_offset(2) + TAIL_BYTES

    @property
    def footer_bytes(self) -> int:
        """What the footer takes on disk; it is charged to the store together with the pieces."""
        return on_disk(self.file_bytes - self.footer_offset)

    @property
    def whole_bytes(self) -> int:
        """What the complete object takes on disk."""
        return self.footer_offset + self.footer_bytes


def on_disk(size_bytes: int) -> int:
    """What bytes that begin with a page take on disk: whole pages, which are what file systems give out."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def extent_bytes_of(length_bytes: int, extent_bytes: int) -> int:
    """What an object of this length is evicted in: ``extent_bytes``, or as many times that as 2 bytes can number."""
    extents = -(-length_bytes // extent_bytes)
    return extent_bytes * max(1, -(-extents // MOST_EXTENTS))


def layout_for(representation: Representation, generation: bytes) -> Layout:
    """The layout of a new file, with room for the header to grow when it is revalidated."""
    needed = len(encode_header(representation)) + _SLOT.size + _SLOT_HEADROOM_BYTES
    slot_bytes = -(-needed // 512) * 512
    if slot_bytes > MAX_SLOT_BYTES:
        raise CorruptObject(f"header of {needed} bytes is too large to store")
    return Layout(representation.length_bytes, representation.piece_size_bytes, slot_bytes, generation)


def encode_prologue(layout: Layout) -> bytes:
    """The prologue with its CRC."""
    body = _PROLOGUE.pack(_MAGIC, layout.length_bytes, layout.piece_size_bytes, layout.slot_bytes, layout.generation)
    return body + _CRC.pack(zlib.crc32(body))


def decode_prologue(data: bytes, *, footer_offset: int, file_bytes: int) -> Layout:
    """The layout that a prologue describes; CorruptObject unless it fits the file exactly."""
    if len(data) != PROLOGUE_BYTES:
        raise CorruptObject("footer is cut off")
    body = data[: _PROLOGUE.size]
    if zlib.crc32(body) != _CRC.unpack(data[_PROLOGUE.size :])[0]:
        raise CorruptObject("footer checksum does not match")
    magic, length, piece_size, slot_bytes, generation = _PROLOGUE.unpack(body)
    if magic != _MAGIC or piece_size == 0 or not _SLOT.size < slot_bytes <= MAX_SLOT_BYTES:
        raise CorruptObject("footer is not of this format")
    layout = Layout(length, piece_size, slot_bytes, generation)
    if layout.footer_offset != footer_offset or layout.file_bytes != file_bytes:
        raise CorruptObject("footer does not fit the file")
    return layout


def encode_tail(layout: Layout) -> bytes:
    return _TAIL.pack(layout.footer_offset, _TAIL_MAGIC)


def decode_tail(data: bytes) -> int:
    """Offset of the prologue; CorruptObject when the tail is not one."""
    if len(data) != TAIL_BYTES:
        raise CorruptObject("file is too short")
    offset, magic = _TAIL.unpack(data)
    if magic != _TAIL_MAGIC:
        raise CorruptObject("file has no footer")
    return int(offset)


def encode_record(layout: Layout, piece: int, digest: bytes | None) -> bytes:
    """The record of a piece with this SHA-256, or of an absent piece."""
    state = 0 if digest is None else 1
    payload = digest or bytes(32)
    return _RECORD.pack(state, _record_crc(layout, piece, state, payload), payload)


def decode_record(layout: Layout, piece: int, data: bytes) -> bytes | None:
    """The SHA-256 of a stored piece; None when the record is absent, torn or of another generation."""
    if len(data) != RECORD_BYTES:
        return None
    state, crc, digest = _RECORD.unpack(data)
    if state != 1 or crc != _record_crc(layout, piece, state, digest):
        return None
    return bytes(digest)


def _record_crc(layout: Layout, piece: int, state: int, digest: bytes) -> int:
    return zlib.crc32(layout.generation + struct.pack("<IB", piece, state) + digest)


def encode_slot(layout: Layout, representation: Representation, sequence: int) -> bytes | None:
    """A header slot, or None when the header has outgrown it."""
    payload = encode_header(representation)
    if _SLOT.size + len(payload) > layout.slot_bytes:
        return None
    crc = zlib.crc32(layout.generation + sequence.to_bytes(8, "little") + payload)
    return _SLOT.pack(_SLOT_MAGIC, len(payload), sequence, crc) + payload


def decode_slot(layout: Layout, data: bytes) -> tuple[int, Representation] | None:
    """``(sequence, representation)`` of a valid slot; None for an empty, torn or foreign one."""
    if len(data) < _SLOT.size:
        return None
    magic, size, sequence, crc = _SLOT.unpack_from(data)
    payload = data[_SLOT.size : _SLOT.size + size]
    if magic != _SLOT_MAGIC or len(payload) != size:
        return None
    if crc != zlib.crc32(layout.generation + sequence.to_bytes(8, "little") + payload):
        return None
    rep = decode_header(payload)
    fits = (rep.length_bytes, rep.piece_size_bytes) == (layout.length_bytes, layout.piece_size_bytes)
    return (sequence, rep) if fits else None


def encode_header(representation: Representation) -> bytes:
    """The header as JSON, readable without the program that wrote it."""
    header = _Header(
        **facts_of(representation),
        hash_of_hashes=representation.hash_of_hashes,
        marker=representation.marker,
        statements=representation.statements,
        secure=representation.secure,
        unsettled=representation.unsettled,
    )
    return msgspec.json.encode(header)


def decode_header(payload: bytes) -> Representation:
    """The representation in a header; CorruptObject when it is not of this form."""
    try:
        header = msgspec.json.decode(payload, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise CorruptObject("header does not decode") from exc
    known = header.representation(hash_of_hashes=header.hash_of_hashes)
    return replace(
        known,
        marker=header.marker,
        statements=header.statements,
        secure=header.secure,
        unsettled=header.unsettled,
    )
