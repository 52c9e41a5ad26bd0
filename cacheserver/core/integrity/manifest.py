"""The piece-hash file (PHF): content length, piece size and the SHA-256 of every piece, bound by one hash of hashes.

Owns: parsing hostile input, self-consistency, and the byte-exact form, so that a node which holds the content can
rebuild the file and its digest. Says nothing of authenticity: a manifest that is right in itself may still be forged.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.digest_text import from_base64, to_base64

HASH_BYTES = 32
MAX_MANIFEST_BYTES = 32 << 20
"""About 700,000 pieces, or 680 GiB in pieces of 1 MiB."""
_MIN_PIECE_BYTES, _MAX_PIECE_BYTES = 1 << 14, 1 << 26
_MAX_LENGTH_BYTES = 1 << 46
_HEAD = struct.Struct("<IQI")


PIECE_SIZES = (1 << 20, *(1 << bits for bits in range(14, 27) if bits != 20))
"""Every piece size that a manifest may have; Delivery Optimization's first."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One self-consistent manifest. ``piece_hashes`` are raw digests one after the other."""

    length_bytes: int
    piece_size_bytes: int
    piece_hashes: bytes

    @property
    def piece_count(self) -> int:
        """Number of pieces."""
        return len(self.piece_hashes) // HASH_BYTES

    def piece_span(self, piece: int) -> tuple[int, int]:
        """Where one piece lies in the content, half-open."""
        start = piece * self.piece_size_bytes
        return start, min(start + self.piece_size_bytes, self.length_bytes)

    def piece_hash(self, piece: int) -> bytes:
        """SHA-256 of one piece."""
        return self.piece_hashes[piece * HASH_BYTES : (piece + 1) * HASH_BYTES]

    def hashes_of(self, start: int, stop: int) -> bytes:
        """The hashes of all pieces of bytes ``[start, stop)``, which begin and end with a piece or the content."""
        first, end = start // self.piece_size_bytes, -(-stop // self.piece_size_bytes)
        return self.piece_hashes[first * HASH_BYTES : end * HASH_BYTES]

    @property
    def hash_of_hashes(self) -> bytes:
        """SHA-256 over version, length, piece size and all piece hashes."""
        head = _HEAD.pack(1, self.length_bytes, self.piece_size_bytes)
        return hashlib.sha256(head + self.piece_hashes).digest()

    def render(self) -> bytes:
        """The file, byte for byte as services publish it: one line, fixed field order, padded base64."""
        pieces = ",".join(f'"{to_base64(self.piece_hash(piece))}"' for piece in range(self.piece_count))
        return (
            f'{{"MajorVersion":1,"MinorVersion":0,"HashOfHashes":"{to_base64(self.hash_of_hashes)}",'
            f'"ContentLength":{self.length_bytes},"PieceSize":{self.piece_size_bytes},"Pieces":[{pieces}]}}'
        ).encode("ascii")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file (``PiecesHashDigest`` of update metadata)."""
        return hashlib.sha256(self.render()).digest()


# The length of a SHA-256 in base64: strings of any other length are refused before they take up memory.
_HashText = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]


class _File(msgspec.Struct):
    MajorVersion: int
    MinorVersion: int
    HashOfHashes: _HashText
    ContentLength: int
    PieceSize: int
    Pieces: list[_HashText]


def parse_manifest(data: bytes, *, length_bytes: int | None = None) -> Manifest:
    """Parse and check a piece-hash file; ``length_bytes`` is the content's length where it is known.

    Raises ManifestError, with one line of reason, for anything but a self-consistent manifest of exactly that length.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError("manifest is too large")
    if not data.isascii() or b"\\u" in data:
        raise ManifestError("manifest holds characters that no manifest needs")  # and that hide a key's second spelling
    try:
        file = msgspec.json.decode(data, type=_File)
        _refuse_duplicates(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ManifestError("manifest is not JSON of the expected form") from exc
    if (file.MajorVersion, file.MinorVersion) != (1, 0):
        raise ManifestError("manifest has an unknown version")
    if not _MIN_PIECE_BYTES <= file.PieceSize <= _MAX_PIECE_BYTES or file.PieceSize & (file.PieceSize - 1):
        raise ManifestError("piece size is out of bounds")
    if not 0 < file.ContentLength <= _MAX_LENGTH_BYTES:
        raise ManifestError("content length is out of bounds")
    if length_bytes is not None and file.ContentLength != length_bytes:
        raise ManifestError(f"manifest is for {file.ContentLength} bytes, the content has {length_bytes}")
    if len(file.Pieces) != -(-file.ContentLength // file.PieceSize):
        raise ManifestError("number of pieces does not fit the length")
    manifest = Manifest(file.ContentLength, file.PieceSize, b"".join(_hash(text) for text in file.Pieces))
    if manifest.hash_of_hashes != _hash(file.HashOfHashes):
        raise ManifestError("hash of hashes does not match the pieces")
    return manifest


def _refuse_duplicates(data: bytes) -> None:
    """A key that stands twice may be read in two ways: refuse it."""
    for name in _File.__struct_fields__:
        if data.count(f'"{name}"'.encode("ascii")) != 1:
            raise ManifestError(f"{name} does not stand exactly once")


def _hash(text: str) -> bytes:
    try:
        return from_base64(text, HASH_BYTES)
    except ValueError as exc:
        raise ManifestError(f"a hash {exc}") from exc
