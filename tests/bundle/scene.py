"""Cache directories of stopped nodes with known objects, and the bundle commands run on them.

Owns the wiring of the bundle tests. Must not decide what is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cacheserver.bundle import format as fmt
from cacheserver.bundle.volumes import open_object, opened_volumes, stored_ids
from cacheserver.cli import main as cli
from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.request.keys import object_id
from cacheserver.core.units import Size
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.options import StoreOptions, VolumeOptions
from cacheserver.store.volume import Volume
from tests.support.content import blob

PIECE = 1 << 20
BODIES = {"one": blob(1, 2 * PIECE + 5), "two": blob(2, 700), "three": blob(3, PIECE)}


def representation(
    name: str, length_bytes: int, *, piece_bytes: int = PIECE, trust: Trust = Trust.SIMPLE
) -> Representation:
    """An object called ``name`` of the host cdn.example.test."""
    key = f"own\n*\ncdn.example.test\n/files/{name}\n"
    return Representation(
        key=key,
        object_id=object_id(key),
        service="own",
        length_bytes=length_bytes,
        piece_size_bytes=piece_bytes,
        fields=Fields((("Content-Type", "text/plain"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"))),
        validators=Validators('"v1"', "Tue, 14 Nov 2023 20:00:00 GMT"),
        request_time_s=1_700_000_000.25,
        response_time_s=1_700_000_000.5,
        origin="http://cdn.example.test",
        path_and_query=f"/files/{name}",
        trust=trust,
    )


def store_options(directory: Path, max_size: str = "1GiB") -> StoreOptions:
    """One volume."""
    return StoreOptions(volumes=(VolumeOptions(path=str(directory), max_size=Size(max_size)),))


def put(volume: Volume, found: Representation, body: bytes, *, pieces: int | None = None) -> str:
    """Store an object, or only its first ``pieces``; its id."""
    file = ObjectFile.create(volume.path_of(found.object_id), found)
    size, count = found.piece_size_bytes, len(file.pieces) if pieces is None else pieces
    for piece in range(count):
        data = body[piece * size : (piece + 1) * size]
        file.write_at(piece * size, data)
        file.record_piece(piece, hashlib.sha256(data).digest())
    charged = file.expected_bytes
    complete = file.pieces.complete
    file.close()
    volume.catalogue.put(found.object_id, CatalogueRecord(len(body), charged, complete, found.service))
    volume.ledger.correct(charged)
    return found.object_id


@contextmanager
def opened(directory: Path) -> Iterator[Volume]:
    """The one volume of a directory."""
    with opened_volumes(store_options(directory)) as volumes:
        yield volumes[0]


def filled(directory: Path, bodies: dict[str, bytes] = BODIES) -> dict[str, str]:
    """A cache directory with these objects; name → id."""
    with opened(directory) as volume:
        return {name: put(volume, representation(name, len(body)), body) for name, body in bodies.items()}


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """An object as it is found in a cache directory."""

    representation: Representation
    body: bytes
    complete: bool
    row: CatalogueRecord | None


def contents(directory: Path) -> dict[str, StoredCopy]:
    """Everything in a cache directory, by the last segment of its path; insists that no stray file is there."""
    found = {}
    with opened(directory) as volume:
        ids = list(stored_ids(volume))
        strays = [path for path in (directory / "objects").rglob("*") if path.is_file() and path.name not in ids]
        assert not strays, strays
        for each in ids:
            file = open_object(volume, each)
            assert file is not None
            for piece in range(len(file.pieces)):
                if file.pieces.state(piece):
                    file.check_piece(piece)
            with open(volume.path_of(each), "rb") as raw:
                body = raw.read(file.layout.length_bytes)
            name = file.representation.key.split("\n")[3].rpartition("/")[2]
            found[name] = StoredCopy(file.representation, body, file.pieces.complete, volume.catalogue.get(each))
            file.close()
    return found


@dataclass(frozen=True, slots=True)
class Keys:
    """A signer's key files."""

    private: Path
    public: Path


def new_keys(directory: Path, name: str = "signer") -> Keys:
    """A fresh pair."""
    key = Ed25519PrivateKey.generate()
    keys = Keys(directory / f"{name}.pem", directory / f"{name}.pub")
    keys.private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    keys.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return keys


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command said."""

    code: int
    out: str
    lines: list[str]


@dataclass(slots=True)
class Scene:
    """A place for cache directories and bundles, a signer, and the commands."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    keys: Keys

    @property
    def bundle(self) -> Path:
        """The bundle."""
        return self.directory / "bundle"

    def run(self, *arguments: str | Path) -> Ran:
        """Run one command."""
        self.capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return Ran(code, captured.out, captured.err.splitlines())

    def export(self, *selection: str, cache: Path, signed: bool = True) -> Ran:
        """Export into the bundle."""
        key = ("--key", self.keys.private) if signed else ()
        return self.run("export", *selection, self.bundle, "--cache-dir", cache, *key)

    def take(self, cache: Path, *flags: str | Path) -> Ran:
        """Import the bundle; from the signer unless flags say otherwise."""
        trust: Sequence[str | Path] = () if "--unsigned" in flags else ("--trusted", self.keys.public)
        return self.run("import", self.bundle, "--cache-dir", cache, *trust, *flags)


def sections(scene: Scene) -> dict[str, fmt.Entry]:
    """The contents of the scene's bundle, by object name."""
    data = scene.bundle.read_bytes()
    tail = fmt.decode_tail(data[-fmt.TAIL_BYTES :], file_bytes=len(data))
    raw = data[tail.contents_offset : tail.contents_offset + tail.contents_bytes]
    entries = fmt.decode_contents(raw, contents_offset=tail.contents_offset).objects
    names = {representation(name, 1).object_id: name for name in BODIES}
    return {names[entry.object_id]: entry for entry in entries}
