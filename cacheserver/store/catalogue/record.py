"""What the catalogue keeps of one object, as bytes and back.

Owns the row's format. Must not know where rows are kept. Layout, little-endian: version (1), flags (bit 0: complete),
number of vary names, length of the service's name, length_bytes (8), stored_bytes (8), the service, each vary name
after one byte of its length, CRC-32 of all before it.
"""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import dataclass

from cacheserver.core.errors import CorruptObject

_HEAD = struct.Struct("<BBBBQQ")
_SUM = struct.Struct("<I")
_VERSION = 1
_COMPLETE = 1
MAX_BYTES = 2**48
"""256 TiB: above any file, and low enough that a sum over rows stays below 2**63."""


@dataclass(frozen=True, slots=True)
class CatalogueRecord:
    """The small facts by which an object is found and counted without opening its file."""

    length_bytes: int
    """Length of the representation; of a Vary marker its number."""
    stored_bytes: int
    """What it is charged on its volume, footer included."""
    complete: bool
    """Every piece is there."""
    service: str
    vary: tuple[str, ...] = ()
    """Not empty: this id only names the selecting fields (RFC 9111 §4.1) and has no file."""

    def encode(self) -> bytes:
        """The row's value. Raises ValueError for a number, a name or a count that the format cannot hold."""
        if not (0 <= self.length_bytes < MAX_BYTES and 0 <= self.stored_bytes < MAX_BYTES):
            raise ValueError("length_bytes and stored_bytes must be in [0, 2**48)")
        service = self.service.encode()
        names = [name.encode() for name in self.vary]
        if max(len(service), len(names), *map(len, names), 0) > 255:
            raise ValueError("a name or the number of vary names is above 255")
        head = _HEAD.pack(
            _VERSION, _COMPLETE * self.complete, len(names), len(service), self.length_bytes, self.stored_bytes
        )
        body = b"".join((head, service, *(bytes((len(name),)) + name for name in names)))
        return body + _SUM.pack(zlib.crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> CatalogueRecord:
        """The record of a row's value. Raises CorruptObject for anything that ``encode`` does not write."""
        end = len(data) - _SUM.size
        if end < _HEAD.size or _SUM.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
            raise CorruptObject("a catalogue row is cut short or has a wrong checksum")
        version, flags, name_count, service_length, length_bytes, stored_bytes = _HEAD.unpack_from(data)
        if version != _VERSION or flags > _COMPLETE or length_bytes >= MAX_BYTES or stored_bytes >= MAX_BYTES:
            raise CorruptObject("a catalogue row is not of this version")
        place = _HEAD.size + service_length
        if place > end or (place < end and not name_count):
            raise CorruptObject("a catalogue row has a length that contradicts its names")
        try:
            service = sys.intern(data[_HEAD.size : place].decode())
            vary = _names(data[place:end], name_count) if name_count else ()
        except (UnicodeDecodeError, IndexError) as exc:
            raise CorruptObject("a catalogue row has a bad name") from exc
        return cls(length_bytes, stored_bytes, flags == _COMPLETE, service, vary)


def _names(data: bytes, count: int) -> tuple[str, ...]:
    """``count`` names that fill ``data``. Raises CorruptObject, UnicodeDecodeError or IndexError."""
    names = []
    place = 0
    for _ in range(count):
        start = place + 1
        place = start + data[place]
        names.append(data[start:place].decode())
    if place != len(data):
        raise CorruptObject("a catalogue row has a length that contradicts its names")
    return tuple(names)
