"""Reading a bundle: finds the sections, checks digests and seals, gives objects whose metadata is right.

Owns: what is believed of a bundle's framing. Blocking. Bodies are not checked here: whoever takes one hashes every
piece. With sound contents each section is found by them, so that a damaged one hides no other; without, sections are
walked from the front as far as they can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cacheserver.bundle import format as fmt
from cacheserver.bundle.header import BundledObject, decode_metadata
from cacheserver.bundle.keys import raw_public, verifies
from cacheserver.core.errors import BundleError
from cacheserver.core.integrity.manifest import HASH_BYTES
from cacheserver.store.object.file import disk_errors
from cacheserver.system.regular_file import open_regular


@dataclass(frozen=True, slots=True)
class Found:
    """An object whose metadata is sound, and sealed by a trusted key where one is asked for."""

    number: int
    bundled: BundledObject
    body_offset: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """An object that must not be imported. ``name`` is its id as the contents give it, or empty."""

    number: int
    name: str
    reason: str


class BundleReader:
    """One open bundle. ``trusted`` empty: seals are not looked at."""

    def __init__(self, path: str, trusted: Sequence[Ed25519PublicKey]) -> None:
        """Open and judge the framing. Raises BundleError when nothing in the file can be believed, DiskError."""
        with disk_errors(f"cannot read {path}"):
            self._fd = open_regular(path)
            self._file_bytes = os.fstat(self._fd).st_size
        try:
            self._head = fmt.decode_file_head(self._read(0, fmt.FILE_HEAD_BYTES))
            self._key = self._signer(trusted)
            self.contents_fault: str | None = None
            """Why the contents cannot be used; None when they can."""
            self._contents: fmt.Contents | None = None
            try:
                self._contents = self._sound_contents()
            except BundleError as exc:
                self.contents_fault = str(exc)
        except BaseException:
            self.close()
            raise

    def _signer(self, trusted: Sequence[Ed25519PublicKey]) -> Ed25519PublicKey | None:
        if not trusted:
            return None
        if not self._head.signed:
            raise BundleError("the bundle is not signed")
        found = [key for key in trusted if raw_public(key) == self._head.public_key]
        if not found:
            raise BundleError("the bundle is not signed by a trusted key")
        return found[0]

    @property
    def signed(self) -> bool:
        """Whether what this reader finds is sealed by a trusted key."""
        return self._key is not None

    def _sound_contents(self) -> fmt.Contents:
        start = max(0, self._file_bytes - fmt.TAIL_BYTES)
        tail = fmt.decode_tail(self._read(start, fmt.TAIL_BYTES), file_bytes=self._file_bytes)
        data = self._read(tail.contents_offset, tail.contents_bytes)
        rest = self._read(tail.contents_offset + tail.contents_bytes, fmt.CONTENTS_OVERHEAD_BYTES)
        digest, seal = rest[:HASH_BYTES], rest[HASH_BYTES:]
        if fmt.contents_digest(self._head, data) != digest:
            raise BundleError("the table of contents does not match its digest")
        if self._key is not None and not verifies(self._key, seal, fmt.contents_message(digest)):
            raise BundleError("the signature of the table of contents does not verify")
        return fmt.decode_contents(data, contents_offset=tail.contents_offset)

    def objects(self) -> Iterator[Found | Damaged]:
        """Every object, in the order of the file. Raises DiskError."""
        if self._contents is None:
            yield from self._walk()
            return
        for number, entry in enumerate(self._contents.objects):
            try:
                head = self._section_head(entry.offset, entry.section_bytes)
                if head.section_bytes != entry.section_bytes or head.digest.hex() != entry.digest:
                    raise BundleError("the section is not the one that the table of contents lists")
                found = self._found(number, entry.offset, head)
                if found.bundled.representation.object_id != entry.object_id:
                    raise BundleError("the section is not the one that the table of contents lists")
                yield found
            except BundleError as exc:
                yield Damaged(number, entry.object_id[:32], str(exc))

    def _walk(self) -> Iterator[Found | Damaged]:
        number, offset = 0, fmt.FILE_HEAD_BYTES
        while offset < self._file_bytes:
            try:
                head = self._section_head(offset, fmt.MAX_LENGTH_BYTES * 2)
            except BundleError:
                return
            try:
                if offset + head.section_bytes > self._file_bytes:
                    raise BundleError("the section is cut off")
                yield self._found(number, offset, head)
            except BundleError as exc:
                yield Damaged(number, "", str(exc))
            number, offset = number + 1, offset + head.section_bytes

    def _section_head(self, offset: int, room_bytes: int) -> fmt.SectionHead:
        return fmt.decode_section_head(self._read(offset, fmt.SECTION_HEAD_BYTES), room_bytes=room_bytes)

    def _found(self, number: int, offset: int, head: fmt.SectionHead) -> Found:
        start = offset + fmt.SECTION_HEAD_BYTES
        metadata = self._read(start, head.metadata_bytes)
        if head.digest_of(self._head.bundle_id, metadata) != head.digest:
            raise BundleError("the metadata does not match its digest")
        if self._key is not None and not verifies(self._key, head.seal, fmt.object_message(head.digest)):
            raise BundleError("the signature of the object does not verify")
        return Found(number, decode_metadata(head, metadata), start + head.metadata_bytes)

    def piece(self, found: Found, piece: int) -> bytes:
        """The bytes of one piece. Raises BundleError where the file ends before; DiskError."""
        size = found.bundled.representation.piece_size_bytes
        start = piece * size
        stop = min(start + size, found.bundled.representation.length_bytes)
        data = self._read(found.body_offset + start, stop - start)
        if len(data) != stop - start:
            raise BundleError("the body is cut off")
        return data

    def _read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes; nothing is sized by a number that the file does not back."""
        size = min(size, max(0, self._file_bytes - offset))
        parts: list[bytes] = []
        with disk_errors("cannot read the bundle"):
            while size > 0:
                data = os.pread(self._fd, min(size, 1 << 24), offset)
                if not data:
                    break
                parts.append(data)
                offset, size = offset + len(data), size - len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Give the descriptor back; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> BundleReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
