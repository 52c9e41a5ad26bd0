"""When a piece-hash file may be rebuilt from an object, and that it is the published one byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.piece_map import PRESENT
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.rebuilt_manifest import claims_of_pieces, manifest_of, recorded_digests
from tests.bundle.scene import PIECE, representation
from tests.support import manifests
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


def claim(body: bytes, size: int, *, digest: bool = False) -> Claim:
    made = manifests.manifest_of(body, size)
    if digest:
        return Claim("catalogue", authentic=True, manifest_digest=made.digest)
    return Claim("catalogue", authentic=True, hash_of_hashes=made.hash_of_hashes)


def test_claims_about_pieces_of_any_size_are_found_right_or_wrong_in_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(tmp_path / "o", BODY)
    spans: list[tuple[int, int]] = []
    feed = ObjectFile.feed

    def noted(self: ObjectFile, digests: Any, start: int, stop: int) -> None:
        spans.append((start, stop))
        feed(self, digests, start, stop)

    monkeypatch.setattr(ObjectFile, "feed", noted)
    own = claim(BODY, PIECE, digest=True)
    others = [claim(BODY, 1 << 14), claim(BODY, 1 << 26), claim(BODY, 1 << 18, digest=True)]
    wrong = [claim(BODY[:-1] + b"?", 1 << 14), claim(BODY + b"?", PIECE)]
    whole = Claim("catalogue", authentic=True, sha1=bytes(20))
    assert claims_of_pieces(file, [own, whole]) == frozenset({own})
    assert spans == []
    assert claims_of_pieces(file, [own, *others, *wrong, whole]) == frozenset({own, *others})
    assert spans == [(0, len(BODY))]
    file.close()


def test_claims_are_compared_with_a_last_piece_that_is_not_recorded_and_not_with_a_gap(tmp_path: Path) -> None:
    file = stored(tmp_path / "o", BODY, pieces=2)
    file.write_at(2 * PIECE, BODY[2 * PIECE :])
    told = [claim(BODY, PIECE)]
    assert claims_of_pieces(file, told) is None
    assert claims_of_pieces(file, told, 2) == frozenset(told)
    file.close()
