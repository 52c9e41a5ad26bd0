"""The piece-hash file of an object that is here: rebuilt from the digests of its pieces, byte for byte as services do.

Owns: when that may be done, and which claims about its pieces fit an object. Must not check pieces itself; the caller
has, and the piece map says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.piece_gate import PieceHashes
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.piece_map import PRESENT
from cacheserver.store.object.file import ObjectFile

PIECE_BYTES = 1 << 20
"""The piece size of every published piece-hash file."""


def recorded_digests(file: ObjectFile) -> bytes | None:
    """SHA-256 of every piece as recorded, one after the other; None when one is missing. Blocking; DiskError."""
    digests = [digest for digest in file.recorded() if digest is not None]
    return b"".join(digests) if len(digests) == file.layout.piece_count else None


def claims_of_pieces(file: ObjectFile, claims: Sequence[Claim], written: int | None = None) -> frozenset[Claim] | None:
    """Those that determine all pieces, and are right of this content; None where a record is missing. Blocking.

    Claims do not say of which size their pieces are: the recorded digests are tried first, then the content is read
    once for all other sizes. ``written``: a piece that is on disk and not recorded. DiskError.
    """
    length, size = file.layout.length_bytes, file.layout.piece_size_bytes
    recorded = file.recorded()
    if written is not None:
        recorded[written] = file.digests_of(*file.pieces.bounds(written), size)
    if None in recorded:
        return None
    own = Manifest(length, size, b"".join(digest for digest in recorded if digest is not None))
    right = {claim for claim in claims if claim.states_pieces and claim.agrees_with(own)}
    open_ends = [claim for claim in claims if claim.states_pieces and claim not in right]
    if open_ends:
        hashes = PieceHashes()
        file.feed((hashes,), 0, length)
        right.update(claim for claim in open_ends if hashes.are_of(claim))
    return frozenset(right)


def manifest_of(file: ObjectFile) -> Manifest:
    """The manifest of a complete object, all of whose pieces were checked since they were opened. Blocking.

    Raises ManifestError where a piece is missing or unchecked, the object is empty, or its pieces are not of 1 MiB;
    DiskError.
    """
    if file.layout.piece_size_bytes != PIECE_BYTES:
        raise ManifestError("the object is not stored in pieces of 1 MiB")
    count = len(file.pieces)
    if not count or len(file.pieces.pieces_in_state(0, count, PRESENT)) != count:
        raise ManifestError("the object is empty, or not all of its pieces are there and checked")
    digests = recorded_digests(file)
    if digests is None:
        raise ManifestError("the record of a piece is missing")
    return Manifest(file.layout.length_bytes, PIECE_BYTES, digests)
