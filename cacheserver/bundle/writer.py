"""Writing a bundle: sections one after the other, the contents at the end, the name only when all is there.

Owns: the unfinished file ``BUNDLE.part`` and the seals. Blocking. A section whose body turns out wrong is taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cacheserver.bundle import format as fmt
from cacheserver.bundle.header import BundledObject, encode_header
from cacheserver.bundle.keys import raw_public
from cacheserver.core.errors import BundleError, PieceMismatch
from cacheserver.store.object.file import disk_errors
from cacheserver.system.place import remove, rename
from cacheserver.system.regular_file import hold


class BundleWriter:
    """One bundle being written. As a context: an exception removes the unfinished file."""

    def __init__(self, path: str, key: Ed25519PrivateKey | None) -> None:
        """Begin ``path.part``, in place of one that an earlier run left. Raises DiskError."""
        self._path = path
        self._key = key
        self._entries: list[fmt.Entry] = []
        public = fmt.UNSIGNED_KEY if key is None else raw_public(key.public_key())
        self._head = fmt.FileHead(os.urandom(fmt.ID_BYTES), public)
        with disk_errors("cannot create the bundle"):
            # Not write_atomically: a bundle is streamed, as it may be larger than the memory.
            try:
                fd = hold(f"{path}.part", 0o644)
            except BlockingIOError as exc:
                raise BundleError(f"another export is writing {path}.part") from exc
            self._file = os.fdopen(fd, "wb", buffering=1 << 20)
            self._file.truncate(0)
        self._offset = 0
        self._write(self._head.encode())

    def add(self, bundled: BundledObject, pieces: Iterable[bytes]) -> None:
        """Write one object; ``pieces`` are its bytes, piece by piece.

        Raises PieceMismatch, with the section taken back, when a piece does not have its digest; DiskError.
        """
        begin = self._offset
        metadata, head = self._sealed(bundled)
        try:
            self._write(head.encode())
            self._write(metadata)
            for number, piece in enumerate(pieces):
                got = hashlib.sha256(piece).digest()
                if got != bundled.digest(number):
                    raise PieceMismatch(number, expected=bundled.digest(number), got=got)
                self._write(piece)
        except BaseException:
            with disk_errors("cannot write the bundle"):
                self._file.seek(begin)
                self._file.truncate()
            self._offset = begin
            raise
        if self._offset - begin != head.section_bytes:
            raise AssertionError("the body is as long as its representation says")
        self._entries.append(fmt.Entry(bundled.representation.object_id, begin, head.section_bytes, head.digest.hex()))

    def _sealed(self, bundled: BundledObject) -> tuple[bytes, fmt.SectionHead]:
        header, phf = encode_header(bundled), bundled.phf
        metadata = header + phf + bundled.digests
        length = bundled.representation.length_bytes
        head = fmt.SectionHead(len(header), len(phf), bundled.representation.piece_count, length)
        digest = head.digest_of(self._head.bundle_id, metadata)
        return metadata, replace(head, digest=digest, seal=self._seal(fmt.object_message(digest)))

    def _seal(self, message: bytes) -> bytes:
        return fmt.NO_SEAL if self._key is None else self._key.sign(message)

    def finish(self, *, created_s: float) -> int:
        """Write the contents, sync, and give the file its name; its size in bytes. Raises DiskError."""
        data = fmt.encode_contents(fmt.Contents(int(created_s), self._entries))
        digest = fmt.contents_digest(self._head, data)
        tail = fmt.Tail(self._offset, len(data))
        self._write(data + digest + self._seal(fmt.contents_message(digest)) + tail.encode())
        with disk_errors("cannot finish the bundle"):
            self._file.flush()
            os.fsync(self._file.fileno())
            rename(f"{self._path}.part", self._path)  # before the file is closed, which ends the lock
            self._file.close()
        return self._offset

    def _write(self, data: bytes) -> None:
        with disk_errors("cannot write the bundle"):
            self._file.write(data)
        self._offset += len(data)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove what was not finished."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            remove(f"{self._path}.part")
        with contextlib.suppress(OSError):
            self._file.close()
