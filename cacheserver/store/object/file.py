"""One object file: blocking calls on one descriptor, to be run in the store's own threads.

Owns: the order of writes (data, then record: I3), the digest check at rest, punching out evicted pieces. Must not
know of space, catalogue or other objects. Disk faults come out as DiskError, a file that contradicts itself as
CorruptObject.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import CorruptObject, DiskError, PieceMismatch
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED, PieceMap
from cacheserver.store.object import layout as fmt
from cacheserver.store.object.layout import Layout

_READ_BYTES = 1 << 18
_OPEN_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
SLACK_BYTES = 1 << 16
"""What a file system may take for its map of one file, beyond the blocks of the content."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class _Running(Protocol):
    """What takes bytes in order, as a running digest does."""

    def update(self, data: bytes, /) -> object: ...


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate OSError into DiskError with its errno."""
    try:
        yield
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise DiskError(f"{what}: {reason}", errno=exc.errno) from exc


class ObjectFile:
    """An open object file; ``pieces`` and ``representation`` mirror what is on disk."""

    __slots__ = ("_inode", "_read_only", "_sequence", "fd", "found_bytes", "layout", "path", "pieces", "representation")

    def __init__(
        self, *, fd: int, path: str, layout: Layout, representation: Representation, pieces: PieceMap, sequence: int
    ) -> None:
        self.fd = fd
        self.path = path
        self.layout = layout
        self.representation = representation
        self.pieces = pieces
        self._sequence = sequence
        self._read_only = False
        """Opened while its file system was read-only."""
        self._inode = os.fstat(fd).st_ino
        self.found_bytes = 0
        """What it took on disk when it was opened."""

    @property
    def expected_bytes(self) -> int:
        """What it should take on disk: its footer and its pieces."""
        return self.layout.footer_bytes + fmt.on_disk(self.pieces.stored_bytes)

    @classmethod
    def create(cls, path: str, representation: Representation) -> ObjectFile:
        """Make a new file in place of any older generation; readers of the old one keep their descriptor."""
        layout = fmt.layout_for(representation, os.urandom(fmt.GENERATION_BYTES))
        # A name of its own for each generation. Not write_atomically: the file is sparse, and stays open.
        temporary = f"{path}.{secrets.token_hex(4)}.new"
        with disk_errors("create"):
            fd = _made(temporary)
            try:
                os.ftruncate(fd, layout.file_bytes)
                pieces = PieceMap(layout.length_bytes, layout.piece_size_bytes)
                created = cls(fd=fd, path=path, layout=layout, representation=representation, pieces=pieces, sequence=0)
                created._write(layout.footer_offset, fmt.encode_prologue(layout))
                created._write_slot(representation)
                created._write(layout.file_bytes - fmt.TAIL_BYTES, fmt.encode_tail(layout))
                os.rename(temporary, path)
            except BaseException:
                os.close(fd)
                with disk_errors("remove"):
                    os.unlink(temporary)
                raise
        return created

    @classmethod
    def open(cls, path: str) -> ObjectFile | None:
        """Open an existing file, following no link; None when there is none, CorruptObject when it is no object."""
        with disk_errors("open"):
            try:
                fd, read_only = _opened(path)
            except FileNotFoundError:
                return None
            except OSError as exc:
                if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise CorruptObject("not a regular file") from exc
                raise
        try:
            file = cls._read_footer(fd, path)
            file._read_only = read_only
            file._measure()
        except BaseException:
            os.close(fd)
            raise
        return file

    def _measure(self) -> None:
        """See what it takes on disk; where that is too much (copied without holes, torn pieces), make it right."""
        with disk_errors("measure"):
            self.found_bytes = self.taken_bytes()
            if self.found_bytes > self.expected_bytes and not self._read_only:
                for first, stop in self.pieces.missing_runs(0, len(self.pieces), ()):
                    if not self._punch(first, stop):
                        break
                self.found_bytes = self.taken_bytes()

    @classmethod
    def _read_footer(cls, fd: int, path: str) -> ObjectFile:
        with disk_errors("read footer"):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptObject("not a regular file")
            tail = os.pread(fd, fmt.TAIL_BYTES, max(0, status.st_size - fmt.TAIL_BYTES))
            offset = fmt.decode_tail(tail)
            if offset >= status.st_size:
                raise CorruptObject("footer lies outside the file")
            prologue = os.pread(fd, fmt.PROLOGUE_BYTES, offset)
            layout = fmt.decode_prologue(prologue, footer_offset=offset, file_bytes=status.st_size)
            digests = _recorded(fd, layout)
            slots = [os.pread(fd, layout.slot_bytes, layout.slot_offset(slot)) for slot in (0, 1)]
        headers = [header for data in slots if (header := fmt.decode_slot(layout, data)) is not None]
        if not headers:
            raise CorruptObject("no valid header")
        sequence, representation = max(headers, key=lambda header: header[0])
        if len(digests) != layout.piece_count:
            raise CorruptObject("piece records are cut off")
        states = bytes(ABSENT if digest is None else STORED for digest in digests)
        pieces = PieceMap(layout.length_bytes, layout.piece_size_bytes, states)
        return cls(fd=fd, path=path, layout=layout, representation=representation, pieces=pieces, sequence=sequence)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write body bytes; they count only once their piece is recorded."""
        with disk_errors("write"):
            self._write(offset, data)

    def record_piece(self, piece: int, digest: bytes) -> None:
        """Mark a piece whose data is written: on disk first, then in ``pieces`` (I3)."""
        with disk_errors("write record"):
            self._write(self.layout.record_offset(piece), fmt.encode_record(self.layout, piece, digest))
        self.pieces.mark(piece, PRESENT)

    def digest_of(self, piece: int) -> bytes | None:
        """The recorded SHA-256 of a piece, or None."""
        with disk_errors("read record"):
            record = os.pread(self.fd, fmt.RECORD_BYTES, self.layout.record_offset(piece))
        return fmt.decode_record(self.layout, piece, record)

    def recorded(self) -> list[bytes | None]:
        """The recorded SHA-256 of every piece, None for an absent one."""
        with disk_errors("read records"):
            return _recorded(self.fd, self.layout)

    def read_piece(self, piece: int) -> bytes:
        """The bytes on disk, fewer where the file is cut; DiskError when they cannot be read."""
        return b"".join(self._read(*self.pieces.bounds(piece)))

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        """Body bytes ``[start, stop)`` in chunks, fewer where the file is cut."""
        with disk_errors("read"):
            while start < stop and (data := os.pread(self.fd, min(_READ_BYTES, stop - start), start)):
                yield data
                start += len(data)

    def whole_digests(self, names: Sequence[str]) -> dict[str, bytes]:
        """Digests over all body bytes, by hashlib name: SHA-256, or what older metadata still carries."""
        digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self.feed(tuple(digests.values()), 0, self.layout.length_bytes)
        return {name: digest.digest() for name, digest in digests.items()}

    def feed(self, digests: Sequence[_Running], start: int, stop: int) -> None:
        """Feed body bytes ``[start, stop)``, written but perhaps not recorded yet, to running digests."""
        for data in self._read(start, stop):
            start += len(data)
            for digest in digests:
                digest.update(data)
        if start < stop:
            raise DiskError("object file is shorter than it should be")

    def digests_of(self, start: int, stop: int, size: int) -> bytes:
        """SHA-256 of each ``size`` bytes of ``[start, stop)``, one after the other, recorded or not."""
        found = []
        for first in range(start, stop, size):
            digest = hashlib.sha256()
            self.feed((digest,), first, min(first + size, stop))
            found.append(digest.digest())
        return b"".join(found)

    def check_piece(self, piece: int) -> None:
        """Hash a stored piece against its record; PieceMismatch when it is not what was stored."""
        expected, got = self.digest_of(piece), hashlib.sha256()
        for data in self._read(*self.pieces.bounds(piece)):
            got.update(data)
        if expected is None or expected != got.digest():
            raise PieceMismatch(piece, expected=expected or b"", got=got.digest())

    def erase(self, first: int, stop: int) -> None:
        """Forget the pieces ``[first, stop)`` and give their blocks back; DiskError (ENOTSUP) where that cannot be.

        The caller marks them ABSENT first: no reader may see a hole. Whole pages go, up to the footer: a part of a page
        would be cleared in place, under bytes that the kernel has yet to send from it.
        """
        blank = b"".join(fmt.encode_record(self.layout, piece, None) for piece in range(first, stop))
        with disk_errors("erase"):
            self._write(self.layout.record_offset(first), blank)
            if not self._punch(first, stop):
                raise OSError(errno.ENOTSUP, "the file system cannot make holes in files")

    def _punch(self, first: int, stop: int) -> bool:
        """Give the blocks of pieces back; False where the file system cannot."""
        start, end = self.pieces.bounds(first)[0], self.pieces.bounds(stop - 1)[1]
        hole_end = self.layout.footer_offset if stop == len(self.pieces) else end
        if _libc.fallocate(self.fd, _PUNCH_HOLE_KEEP_SIZE, start, hole_end - start) == 0:
            return True
        code = ctypes.get_errno()
        if code != errno.ENOTSUP:
            raise OSError(code, os.strerror(code))
        return False

    def rewrite_header(self, representation: Representation) -> bool:
        """Replace the header; False when the new one does not fit and the object has to be stored anew."""
        if fmt.encode_slot(self.layout, representation, self._sequence + 1) is None:
            return False
        with disk_errors("write header"):
            self._write_slot(representation)
        self.representation = representation
        return True

    def sync(self) -> None:
        """Make data and records durable; an error here is final for the object, never retried."""
        with disk_errors("sync"):
            os.fdatasync(self.fd)

    def taken_bytes(self) -> int:
        """What it takes on disk now, as the kernel knows it: no call to the drive."""
        return os.fstat(self.fd).st_blocks * 512

    def stands(self) -> bool:
        """Whether its name still leads to this file; nobody but the node should have changed that. Blocking."""
        with disk_errors("look for"):
            try:
                return os.stat(self.path, follow_symlinks=False).st_ino == self._inode
            except (FileNotFoundError, NotADirectoryError):
                return False

    def unlink_if_current(self) -> None:
        """Remove the file unless a newer generation has taken its name."""
        with disk_errors("remove"):
            try:
                named = os.stat(self.path, follow_symlinks=False)
            except FileNotFoundError:
                return
            if os.path.samestat(named, os.fstat(self.fd)):
                os.unlink(self.path)

    def close(self) -> None:
        """Give the descriptor back; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        if self._read_only:
            self._open_for_writing()
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, offset)
            view = view[written:]
            offset += written

    def _open_for_writing(self) -> None:
        """Exchange the descriptor of a file whose file system was read-only; OSError (EROFS) while it still is."""
        fd = os.open(self.path, os.O_RDWR | _OPEN_FLAGS)
        try:
            if not os.path.samestat(os.fstat(fd), os.fstat(self.fd)):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            os.dup2(fd, self.fd, inheritable=False)
            self._read_only = False
        finally:
            os.close(fd)

    def _write_slot(self, representation: Representation) -> None:
        sequence = self._sequence + 1
        data = fmt.encode_slot(self.layout, representation, sequence)
        assert data is not None, "layout_for and rewrite_header leave room"
        self._write(self.layout.slot_offset(sequence % 2), data)
        self._sequence = sequence


def _made(path: str) -> int:
    """A descriptor of a new file; its directory is made anew where somebody has removed it under the running node."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        fan = os.path.dirname(path)
        for directory in (os.path.dirname(fan), fan):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)
        return os.open(path, flags, 0o600)


def _opened(path: str) -> tuple[int, bool]:
    """A descriptor, and whether it can only be read, as a drive is after its file system was remounted."""
    try:
        return os.open(path, os.O_RDWR | _OPEN_FLAGS), False
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | _OPEN_FLAGS), True


def _recorded(fd: int, layout: Layout) -> list[bytes | None]:
    table = os.pread(fd, layout.piece_count * fmt.RECORD_BYTES, layout.record_offset(0))
    records = (table[at : at + fmt.RECORD_BYTES] for at in range(0, len(table), fmt.RECORD_BYTES))
    return [fmt.decode_record(layout, piece, record) for piece, record in enumerate(records)]
