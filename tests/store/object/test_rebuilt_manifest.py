"""When a piece-hash file may be rebuilt from an object, and that it is the published one byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.piece_map import PRESENT
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.rebuilt_manifest import manifest_of, recorded_digests
from tests.bundle.scene import PIECE, representation
from tests.support.content import blob

BODY = blob(1, 2 * PIECE + 9)


def stored(path: Path, body: bytes, *, piece_bytes: int = PIECE, pieces: int = 3) -> ObjectFile:
    file = ObjectFile.create(str(path), representation("x", len(body), piece_bytes=piece_bytes))
    for piece in range(min(pieces, len(file.pieces))):
        data = body[piece * piece_bytes : (piece + 1) * piece_bytes]
        file.write_at(piece * piece_bytes, data)
        file.record_piece(piece, hashlib.sha256(data).digest())
    return file


def test_rebuilt_manifest_is_that_of_the_content(tmp_path: Path) -> None:
    file = stored(tmp_path / "o", BODY)
    hashes = b"".join(hashlib.sha256(BODY[at : at + PIECE]).digest() for at in range(0, len(BODY), PIECE))
    assert manifest_of(file) == Manifest(len(BODY), PIECE, hashes)
    assert recorded_digests(file) == hashes
    file.close()


def test_unchecked_missing_empty_and_other_pieces_are_refused(tmp_path: Path) -> None:
    stored(tmp_path / "a", BODY).close()
    unchecked = ObjectFile.open(str(tmp_path / "a"))
    assert unchecked is not None
    files = [
        unchecked,
        stored(tmp_path / "b", BODY, pieces=2),
        stored(tmp_path / "c", b""),
        stored(tmp_path / "d", BODY[: 1 << 17], piece_bytes=1 << 16),
    ]
    for file in files:
        with pytest.raises(ManifestError):
            manifest_of(file)
    for piece in range(3):
        unchecked.check_piece(piece)
        unchecked.pieces.mark(piece, PRESENT)
    assert manifest_of(unchecked).length_bytes == len(BODY)
    assert recorded_digests(files[1]) is None
    for file in files:
        file.close()
