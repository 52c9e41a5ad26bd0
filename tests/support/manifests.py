"""Piece-hash files, spoilt ones too, and a signed catalogue that anchors contents.

Owns making these bytes. Must not decide what the node should do with them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from cacheserver.core.integrity.content_catalogue import CatalogueDocument, Entry, render_catalogue
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.trust.signing import new_private_key, public_key, sign

MIB = 1 << 20


def b64(raw: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(raw).decode("ascii")


def manifest_of(body: bytes, piece_bytes: int = MIB) -> Manifest:
    """The manifest of a body."""
    pieces = (body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes))
    return Manifest(len(body), piece_bytes, b"".join(hashlib.sha256(piece).digest() for piece in pieces))


def phf(body: bytes, piece_bytes: int = MIB) -> bytes:
    """The piece-hash file of a body."""
    return manifest_of(body, piece_bytes).render()


def phf_path(path: str) -> str:
    """Where a content's piece-hash file lives."""
    return f"{path}/pieceshash"


def signed_catalogue(directory: Path, hashes: Mapping[str, Manifest], *, issued: str = "2026-01-01T00:00:00Z") -> str:
    """Write a signed catalogue that binds content ids (GUIDs) to hashes of hashes; the TOML that trusts it."""
    private_pem = new_private_key()
    entries = tuple(
        Entry(length=manifest.length_bytes, id=guid, hash_of_hashes=b64(manifest.hash_of_hashes))
        for guid, manifest in hashes.items()
    )
    document = sign(CatalogueDocument(version=1, issued=issued, entries=entries), private_pem)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "catalogue.json"
    file.write_bytes(render_catalogue(document))
    key = b64(public_key(private_pem))
    return f"[trust]\ncatalogues = [{json.dumps(str(file))}]\ncatalogue_keys = [{json.dumps(key)}]\n"


def _edited(**changes: object) -> Callable[[bytes, int], bytes]:
    def edit(body: bytes, piece_bytes: int) -> bytes:
        known = json.loads(phf(body, piece_bytes))
        return json.dumps(known | changes, separators=(",", ":")).encode()

    return edit


def _replaced(old: bytes, new: bytes) -> Callable[[bytes, int], bytes]:
    def replace(body: bytes, piece_bytes: int) -> bytes:
        text = phf(body, piece_bytes)
        assert old in text
        return text.replace(old, new, 1)

    return replace


def _flipped(member: str) -> Callable[[bytes, int], bytes]:
    """Another letter in the first hash after ``member``."""

    def flip(body: bytes, piece_bytes: int) -> bytes:
        text = bytearray(phf(body, piece_bytes))
        at = text.index(b'"', text.index(f'"{member}":'.encode()) + len(member) + 3) + 5
        text[at] = ord("A") if text[at] != ord("A") else ord("B")
        return bytes(text)

    return flip


def _pieces(change: Callable[[list[str]], list[str]]) -> Callable[[bytes, int], bytes]:
    """Another list of pieces with the hash of hashes that fits it."""

    def edit(body: bytes, piece_bytes: int) -> bytes:
        known = manifest_of(body, piece_bytes)
        texts = change(json.loads(known.render())["Pieces"])
        raw = b"".join(base64.b64decode(text) for text in texts)
        return Manifest(known.length_bytes, piece_bytes, raw).render()

    return edit


def _of_length(more: int) -> Callable[[bytes, int], bytes]:
    """The right manifest of a content that is so many bytes longer."""
    return lambda body, piece_bytes: phf(body + bytes(more) if more > 0 else body[:more], piece_bytes)


SPOILT: dict[str, Callable[[bytes, int], bytes]] = {
    "flipped byte in a piece's hash": _flipped("Pieces"),
    "flipped byte in the hash of hashes": _flipped("HashOfHashes"),
    "manifest for a longer content": _of_length(1),
    "manifest for a shorter content": _of_length(-1),
    "manifest for fewer pieces": _of_length(-100_000),
    "one piece too few": _pieces(lambda pieces: pieces[:-1]),
    "one piece too many": _pieces(lambda pieces: [*pieces, pieces[0]]),
    "no pieces": _pieces(lambda pieces: []),
    "PieceSize 0": _edited(PieceSize=0),
    "PieceSize negative": _edited(PieceSize=-1),
    "PieceSize 2^40": _edited(PieceSize=1 << 40),
    "PieceSize that is no number": _edited(PieceSize="1048576"),
    "another piece size": lambda body, piece_bytes: phf(body, piece_bytes * 2),
    "ContentLength of 400 digits": _edited(ContentLength=10**400),
    "a key twice": _replaced(b'"MinorVersion":0', b'"MinorVersion":0,"ContentLength":5'),
    "an unknown version": _replaced(b'"MajorVersion":1', b'"MajorVersion":2'),
    "base64 of 31 bytes": _edited(HashOfHashes=b64(bytes(31))),
    "a piece that is no text": _edited(Pieces=[None]),
    "an HTML page": lambda _body, _piece_bytes: b"<!DOCTYPE html><title>Log in</title>",
    "an empty file": lambda _body, _piece_bytes: b"",
    "half a file": lambda body, piece_bytes: phf(body, piece_bytes)[:100],
    "a byte-order mark": lambda body, piece_bytes: b"\xef\xbb\xbf" + phf(body, piece_bytes),
    "bytes after the end": lambda body, piece_bytes: phf(body, piece_bytes) + b"{}",
    "brackets all the way down": lambda _body, _piece_bytes: b"[" * 100_000,
    "100 MB of JSON": lambda _body, _piece_bytes: b'{"Pieces":[' + b'"",' * 33_000_000,
}
"""What stands in the file's place → (body, piece size) → its bytes; each must be refused."""
