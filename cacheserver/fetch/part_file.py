"""The unfinished file on disk and the note beside it that lets a later run go on.

Owns: ``FILE.part`` and ``FILE.part.json``, and their end: renamed to ``FILE``, kept for another try, or removed. All
calls block and belong in a thread. What the note says is never believed: whoever resumes hashes the bytes again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator

import msgspec

from cacheserver.core.errors import DiskError, FetchFailed
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.system.atomic_file import write_atomically
from cacheserver.system.place import remove, rename
from cacheserver.system.regular_file import hold, read_regular

DEFAULT_PIECE_BYTES = 1 << 20
_READ_BYTES = 1 << 20


class PiecesNote(msgspec.Struct, frozen=True, tag="pieces", forbid_unknown_fields=True):
    """A fetch by pieces: which content, and which pieces were written."""

    hash_of_hashes: str
    done: str
    """Hex of a bitmap, piece 0 in the lowest bit of the first byte."""


class SimpleNote(msgspec.Struct, frozen=True, tag="simple", forbid_unknown_fields=True):
    """A fetch without metadata: which generation, and the digest of its first bytes."""

    url: str
    source: str
    length_bytes: int
    condition: str
    etag: str | None
    last_modified: str | None
    have_bytes: int
    sha256: str


Note = PiecesNote | SimpleNote
_NOTES: msgspec.json.Decoder[Note] = msgspec.json.Decoder(Note)


class PartFile:
    """``FILE.part``, held by one process at a time."""

    def __init__(self, output: str) -> None:
        """Open or make the file. Raises FetchFailed when another fetch writes it, DiskError."""
        self.output = output
        self._path = f"{output}.part"
        self._note_path = f"{output}.part.json"
        with _disk_errors("open the output"):
            try:
                self.fd = hold(self._path)
            except BlockingIOError as exc:
                raise FetchFailed(f"another fetch is writing {self._path}") from exc

    def note(self) -> Note | None:
        """What an earlier run left; None when there is nothing usable."""
        try:
            return _NOTES.decode(read_regular(self._note_path, 1 << 24))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def save_note(self, note: Note | None) -> None:
        """Write the note, or remove it. The bytes that it names are written, not synced: they are hashed on resume."""
        with _disk_errors("write the note"):
            if note is not None:
                write_atomically(self._note_path, msgspec.json.encode(note))
                return
            with contextlib.suppress(FileNotFoundError):
                remove(self._note_path)

    def begin(self, length_bytes: int) -> None:
        """Make the file exactly this long; what was there stays as far as it goes."""
        with _disk_errors("size the output"):
            os.ftruncate(self.fd, length_bytes)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of ``data``."""
        view = memoryview(data)
        with _disk_errors("write the output"):
            while view:
                written = os.pwrite(self.fd, view, offset)
                view, offset = view[written:], offset + written

    def write_checked(self, offset: int, data: bytes, digest: bytes) -> bool:
        """Write a piece if it has this SHA-256; False and nothing written when it has not."""
        if hashlib.sha256(data).digest() != digest:
            return False
        self.write_at(offset, data)
        return True

    def sound_pieces(self, manifest: Manifest, noted: Iterable[int]) -> set[int]:
        """Of the noted pieces, those whose bytes on disk have the manifest's digest."""
        return {
            piece for piece in noted if self.digest(*manifest.piece_span(piece)).digest() == manifest.piece_hash(piece)
        }

    def digest(self, start: int, stop: int) -> hashlib._Hash:
        """A running SHA-256 over ``[start, stop)``; over less where the file is shorter."""
        digest = hashlib.sha256()
        for chunk in self._chunks(start, stop):
            digest.update(chunk)
        return digest

    def whole_digests(self, length_bytes: int, piece_bytes: int) -> tuple[bytes, bytes]:
        """Read the finished file once more: its SHA-256 and its hash of hashes."""
        whole, pieces = hashlib.sha256(), []
        for start in range(0, length_bytes, piece_bytes):
            piece = hashlib.sha256()
            for chunk in self._chunks(start, min(start + piece_bytes, length_bytes)):
                whole.update(chunk)
                piece.update(chunk)
            pieces.append(piece.digest())
        return whole.digest(), Manifest(length_bytes, piece_bytes, b"".join(pieces)).hash_of_hashes

    def _chunks(self, start: int, stop: int) -> Iterator[bytes]:
        with _disk_errors("read the output"):
            while start < stop:
                data = os.pread(self.fd, min(_READ_BYTES, stop - start), start)
                if not data:
                    return
                yield data
                start += len(data)

    def finish(self) -> None:
        """Sync and give the file its name; the note goes first, as another fetch may begin once the name is free."""
        with _disk_errors("finish the output"):
            os.fsync(self.fd)
            self.save_note(None)
            rename(self._path, self.output)
        self.close()

    def discard(self) -> None:
        """Remove the file and its note: going on from them cannot help."""
        self.save_note(None)
        with _disk_errors("remove the output"):
            remove(self._path)
        self.close()

    def close(self) -> None:
        """Leave what is there for another run; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def pieces_note(manifest: Manifest, done: Iterable[int]) -> PiecesNote:
    """The note for a fetch by pieces."""
    bitmap = bytearray(-(-manifest.piece_count // 8))
    for piece in done:
        bitmap[piece // 8] |= 1 << piece % 8
    return PiecesNote(to_base64(manifest.hash_of_hashes), bitmap.hex())


def noted_pieces(note: Note | None, manifest: Manifest) -> list[int]:
    """The pieces that a note names; none when it is for another content or malformed."""
    if not isinstance(note, PiecesNote) or note.hash_of_hashes != to_base64(manifest.hash_of_hashes):
        return []
    try:
        bitmap = bytes.fromhex(note.done)
    except ValueError:
        return []
    return [piece for piece in range(min(manifest.piece_count, 8 * len(bitmap))) if bitmap[piece // 8] >> piece % 8 & 1]


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DiskError(f"cannot {what}: {os.strerror(exc.errno) if exc.errno else exc}", errno=exc.errno) from exc
