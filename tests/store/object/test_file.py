"""One object file on disk."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import CorruptObject, DiskError, PieceMismatch
from cacheserver.core.http.fields import Fields
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.store.object.file import ObjectFile, disk_errors
from cacheserver.store.object.layout import RECORD_BYTES
from tests.support.stored import PIECE, body_of, open_descriptors, representation

REP = representation()
BODY = body_of(REP)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where the object goes; every descriptor must be back at the end."""
    before = open_descriptors()
    yield tmp_path / REP.object_id
    assert open_descriptors() == before


def filled(path: Path, pieces: tuple[int, ...] = (0, 1, 2, 3)) -> ObjectFile:
    file = ObjectFile.create(str(path), REP)
    for piece in pieces:
        start, stop = file.pieces.bounds(piece)
        file.write_at(start, BODY[start:stop])
        file.record_piece(piece, hashlib.sha256(BODY[start:stop]).digest())
    return file


def reopened(file: ObjectFile) -> ObjectFile:
    file.close()
    again = ObjectFile.open(file.path)
    assert again is not None
    return again


def states(file: ObjectFile) -> list[int]:
    return [file.pieces.state(piece) for piece in range(len(file.pieces))]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(data)


def test_what_was_recorded_is_stored_after_reopening_and_nothing_else(path: Path) -> None:
    file = filled(path, (0, 2))
    assert states(file) == [PRESENT, ABSENT, PRESENT, ABSENT]
    again = reopened(file)
    assert states(again) == [STORED, ABSENT, STORED, ABSENT]
    assert again.representation == REP
    assert again.layout == file.layout
    assert os.pread(again.fd, PIECE, 2 * PIECE) == BODY[2 * PIECE : 3 * PIECE]
    again.close()


def test_written_but_unrecorded_bytes_do_not_count(path: Path) -> None:
    file = ObjectFile.create(str(path), REP)
    file.write_at(0, BODY[:PIECE])
    again = reopened(file)
    assert states(again) == [ABSENT] * 4
    again.close()


def test_a_sound_piece_passes_its_check_and_a_changed_one_does_not(path: Path) -> None:
    file = filled(path)
    overwrite(path, PIECE + 5, b"\x00\x01")
    file.check_piece(0)
    file.check_piece(3)
    with pytest.raises(PieceMismatch) as caught:
        file.check_piece(1)
    assert caught.value.piece == 1
    file.close()


def test_a_piece_without_a_record_fails_its_check(path: Path) -> None:
    file = filled(path, (0,))
    with pytest.raises(PieceMismatch):
        file.check_piece(1)
    file.close()


def test_a_file_that_lost_its_end_fails_the_check_of_its_last_piece(path: Path) -> None:
    file = filled(path)
    os.truncate(path, 3 * PIECE)
    with pytest.raises(PieceMismatch):
        file.check_piece(3)
    file.close()


def test_a_torn_record_makes_its_piece_absent(path: Path) -> None:
    file = filled(path)
    overwrite(path, file.layout.record_offset(2) + 8, bytes(RECORD_BYTES // 2))
    again = reopened(file)
    assert states(again) == [STORED, STORED, ABSENT, STORED]
    again.close()


def test_a_rewritten_header_is_found_after_reopening(path: Path) -> None:
    newer = replace(REP, response_time_s=REP.response_time_s + 60)
    file = filled(path)
    assert file.rewrite_header(newer)
    assert file.representation == newer
    again = reopened(file)
    assert again.representation == newer
    again.close()


def test_a_torn_header_slot_falls_back_to_the_older_one(path: Path) -> None:
    file = filled(path)
    newer = replace(REP, response_time_s=REP.response_time_s + 60)
    before = path.read_bytes()
    assert file.rewrite_header(newer)
    after = path.read_bytes()
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    overwrite(path, changed[len(changed) // 2], bytes((after[changed[len(changed) // 2]] ^ 0xFF,)))
    again = reopened(file)
    assert again.representation == REP
    assert again.rewrite_header(newer), "and the torn slot is the next to be written"
    last = reopened(again)
    assert last.representation == newer
    last.close()


def test_headers_can_be_rewritten_again_and_again(path: Path) -> None:
    file = filled(path)
    for number in range(5):
        assert file.rewrite_header(replace(REP, response_time_s=float(number)))
    again = reopened(file)
    assert again.representation.response_time_s == 4.0
    again.close()


def test_a_header_that_does_not_fit_changes_nothing(path: Path) -> None:
    file = filled(path)
    assert not file.rewrite_header(replace(REP, fields=Fields((("X", "y" * 5000),))))
    assert file.representation == REP
    again = reopened(file)
    assert again.representation == REP
    again.close()


def test_erased_pieces_are_absent_and_give_their_blocks_back(path: Path) -> None:
    file = filled(path)
    blocks = os.fstat(file.fd).st_blocks
    file.erase(1, 3)
    assert os.fstat(file.fd).st_blocks <= blocks - 2 * PIECE // 512
    assert os.path.getsize(path) == file.layout.file_bytes
    again = reopened(file)
    assert states(again) == [STORED, ABSENT, ABSENT, STORED]
    again.check_piece(0)
    again.check_piece(3)
    again.close()


@pytest.mark.parametrize("length", [0, 1, PIECE])
def test_objects_of_any_length_can_be_opened_again(path: Path, length: int) -> None:
    rep: Representation = replace(REP, length_bytes=length)
    again = reopened(ObjectFile.create(str(path), rep))
    assert again.representation == rep
    again.close()


def test_a_new_generation_takes_the_name_and_readers_of_the_old_one_keep_theirs(path: Path) -> None:
    old = filled(path)
    new = ObjectFile.create(str(path), REP)
    assert os.pread(old.fd, PIECE, 0) == BODY[:PIECE]
    old.unlink_if_current()
    assert path.exists(), "the name belongs to the newer one"
    new.unlink_if_current()
    assert not path.exists()
    new.unlink_if_current()
    old.close()
    new.close()
    new.close()


def test_files_are_private(path: Path) -> None:
    ObjectFile.create(str(path), REP).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_file_is_none(path: Path) -> None:
    assert ObjectFile.open(str(path)) is None


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "empty", "text", "cut", "longer", "footer"])
def test_what_is_no_object_is_corrupt(path: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    filled(target).close()
    good = target.read_bytes()
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        footer = good[:-8192] + bytes(8192 - 16) + good[-16:]
        path.write_bytes(
            {"empty": b"", "text": b"x" * 9000, "cut": good[:-1], "longer": good + b"\0", "footer": footer}[kind]
        )
    with pytest.raises(CorruptObject):
        ObjectFile.open(str(path))


def test_a_planted_link_is_not_written_through(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(secrets, "token_hex", lambda _size: "known")
    path.with_name(f"{path.name}.known.new").symlink_to(victim)
    with pytest.raises(DiskError) as caught:
        ObjectFile.create(str(path), REP)
    assert caught.value.errno == errno.ELOOP
    assert victim.read_bytes() == b"precious"


def test_a_failed_creation_leaves_no_file_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskError) as caught:
        ObjectFile.create(str(path), REP)
    assert caught.value.errno == errno.ENOSPC
    assert list(path.parent.iterdir()) == []


def test_a_short_write_is_carried_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:1000], offset))
        file = filled(path)
    for piece in range(4):
        file.check_piece(piece)
    file.close()


def test_disk_errors_keep_their_errno_and_drop_their_path() -> None:
    with pytest.raises(DiskError) as caught, disk_errors("read"):
        raise OSError(errno.EIO, "Input/output error", "/secret/path")
    assert caught.value.errno == errno.EIO
    assert "/secret" not in str(caught.value)


def test_bytes_on_their_way_to_a_client_are_not_cleared_when_their_piece_is_erased(path: Path) -> None:
    """``sendfile`` gives the kernel pages of the file, not copies: they must not change until it has sent them."""
    file = filled(path)
    start, stop = file.pieces.bounds(3)
    assert stop % PIECE, "the last piece ends within a page"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(server.getsockname())
        sock, _address = server.accept()
        with sock:
            sock.setblocking(False)
            waiting = sock.send(bytes(1 << 17))
            assert waiting > 1 << 16, "more than the client takes in by itself"
            sent = os.sendfile(sock.fileno(), file.fd, start, stop - start)
            file.erase(3, 4)
            sock.shutdown(socket.SHUT_WR)
            received = bytearray()
            while data := client.recv(1 << 20):
                received += data
    assert bytes(received[-sent:]) == BODY[start : start + sent]
    file.close()


def test_a_file_of_a_read_only_file_system_is_read_and_written_once_that_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, pieces=(0, 1)).close()
    real = os.open

    def refusing(name: str, flags: int, *arguments: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(name, flags, *arguments)

    digest = hashlib.sha256(BODY[2 * PIECE : 3 * PIECE]).digest()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing)
        file = ObjectFile.open(str(path))
        assert file is not None
        file.check_piece(1)
        with pytest.raises(DiskError) as caught:
            file.record_piece(2, digest)
        assert caught.value.errno == errno.EROFS
    file.write_at(2 * PIECE, BODY[2 * PIECE : 3 * PIECE])
    file.record_piece(2, digest)
    file.check_piece(2)
    again = reopened(file)
    assert states(again) == [STORED, STORED, STORED, ABSENT]
    again.close()


def test_a_newer_generation_is_not_written_through_a_file_that_was_opened_read_only(path: Path) -> None:
    filled(path).close()
    file = ObjectFile.open(str(path))
    assert file is not None
    file._read_only = True
    newer = filled(path)
    before = path.read_bytes()
    with pytest.raises(DiskError):
        file.write_at(0, b"older")
    assert path.read_bytes() == before
    file.close()
    newer.close()


def test_a_file_that_was_copied_without_holes_opens_on_a_read_only_file_system(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, pieces=(0,)).close()
    overwrite(path, PIECE, BODY[PIECE : 2 * PIECE])
    real = os.open

    def refusing(name: str, flags: int, *arguments: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(name, flags, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    file = ObjectFile.open(str(path))
    assert file is not None
    assert file.found_bytes > file.expected_bytes
    file.check_piece(0)
    file.close()


def test_a_link_to_the_file_is_not_the_file(path: Path) -> None:
    file = filled(path)
    assert file.stands()
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert not file.stands()
    file.close()


def test_a_hole_that_fails_is_told_with_its_reason(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled(path)
    monkeypatch.setattr("cacheserver.store.object.file._libc.fallocate", lambda *_args: -1)
    for code in (errno.EIO, errno.ENOTSUP):
        monkeypatch.setattr("ctypes.get_errno", lambda code=code: code)
        with pytest.raises(DiskError) as caught:
            file.erase(1, 2)
        assert caught.value.errno == code
    file.close()


def test_a_sync_reaches_the_drive_and_tells_its_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        assert fd == file.fd
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = filled(path)
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(DiskError):
        file.sync()
    file.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_file_that_cannot_be_opened_is_told_with_its_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(_name: str, _flags: int) -> int:
        raise OSError(code, os.strerror(code))

    filled(path).close()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing)
        with pytest.raises(DiskError) as caught:
            ObjectFile.open(str(path))
    assert caught.value.errno == code
