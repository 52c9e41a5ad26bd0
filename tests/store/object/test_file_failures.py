"""What a failing disk or a damaged file makes of one object file: an error that names its reason, never an OSError."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject, DiskError
from cacheserver.store.object.file import ObjectFile
from tests.support.stored import PIECE, body_of, open_descriptors, representation

REP = representation()
DIGEST = hashlib.sha256(body_of(REP)[:PIECE]).digest()
READS: list[Callable[[ObjectFile], object]] = [
    lambda file: file.digest_of(0),
    lambda file: file.recorded(),
    lambda file: file.read_piece(0),
    lambda file: file.check_piece(0),
    lambda file: file.whole_digests(["sha256"]),
    lambda file: file.digests_of(0, PIECE, 1024),
]
WRITES: list[Callable[[ObjectFile], object]] = [
    lambda file: file.write_at(0, b"x"),
    lambda file: file.record_piece(1, DIGEST),
    lambda file: file.rewrite_header(replace(REP, response_time_s=1.0)),
    lambda file: file.erase(0, 1),
]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ObjectFile]:
    before = open_descriptors()
    made = ObjectFile.create(str(tmp_path / REP.object_id), REP)
    made.write_at(0, body_of(REP)[:PIECE])
    made.record_piece(0, DIGEST)
    yield made
    made.close()
    assert open_descriptors() == before


@pytest.mark.parametrize(("call", "works"), [("pread", work) for work in READS] + [("pwrite", work) for work in WRITES])
def test_a_call_that_the_disk_fails_is_told_with_its_reason(
    file: ObjectFile, monkeypatch: pytest.MonkeyPatch, call: str, works: Callable[[ObjectFile], object]
) -> None:
    def failing(*_args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(DiskError) as caught:
            works(file)
    assert caught.value.errno == errno.EIO
    assert file.representation == REP
    file.check_piece(0)


def test_a_file_whose_two_headers_are_damaged_is_no_object(file: ObjectFile) -> None:
    for slot in (0, 1):
        os.pwrite(file.fd, b"?" * 64, file.layout.slot_offset(slot))
    with pytest.raises(CorruptObject, match="header"):
        ObjectFile.open(file.path)


def test_a_footer_that_lies_outside_its_file_is_none(file: ObjectFile) -> None:
    size = file.layout.file_bytes
    os.pwrite(file.fd, (size + 4096).to_bytes(8, "little"), size - 16)
    with pytest.raises(CorruptObject, match="outside"):
        ObjectFile.open(file.path)


def test_a_hole_that_the_kernel_refuses_names_its_reason(file: ObjectFile) -> None:
    writable, file.fd = file.fd, os.open(file.path, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            file._punch(0, 1)
    finally:
        os.close(file.fd)
        file.fd = writable
    assert caught.value.errno == errno.EBADF
