"""Whose a failed disk call is: every number of the machine has one answer, and only the drive's own take it away."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cacheserver.core.disk_faults import BLAME, Blame, blame_of
from cacheserver.core.errors import DiskError
from tests.support.stored import HandClock, volume_at

OBJECTS = (
    "EACCES",
    "EBADF",
    "EEXIST",
    "EFBIG",
    "EINVAL",
    "EISDIR",
    "ELOOP",
    "ENAMETOOLONG",
    "ENOENT",
    "ENOTDIR",
    "ENOTSUP",
    "EOVERFLOW",
    "EPERM",
    "ESTALE",
    "ETXTBSY",
)
PROCESS = ("EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR")
DRIVES = ("EIO", "ENODEV", "ENXIO", "ETIMEDOUT", "EREMOTEIO", "EBADMSG", "EUCLEAN")


@pytest.mark.parametrize("name", OBJECTS + PROCESS)
def test_what_is_an_objects_or_the_processs_leaves_the_drive_alone(tmp_path: Path, name: str) -> None:
    volume = volume_at(tmp_path, clock=HandClock(), errors=1)
    volume.open()
    for _ in range(10):
        blame = volume.failed(DiskError("call failed", errno=getattr(errno, name)))
        assert blame is (Blame.OBJECT if name in OBJECTS else Blame.PROCESS)
    assert (volume.online, volume.writable, volume.error_count) == (True, True, 0)
    volume.close(clean=False)


@pytest.mark.parametrize("name", DRIVES)
def test_what_is_the_drives_takes_it_offline(tmp_path: Path, name: str) -> None:
    volume = volume_at(tmp_path, clock=HandClock(), errors=1)
    volume.open()
    assert volume.failed(DiskError("call failed", errno=getattr(errno, name))) is Blame.DRIVE
    assert (volume.online, volume.error_count) == (False, 1)
    volume.close(clean=False)


def test_a_call_that_ends_early_without_a_number_is_the_drives() -> None:
    assert blame_of(None) is Blame.DRIVE


def test_every_blame_but_the_drives_has_numbers_and_none_has_two() -> None:
    assert set(BLAME.values()) == set(Blame) - {Blame.DRIVE}
    assert [blame_of(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)] == [
        Blame.FULL,
        Blame.FULL,
        Blame.READ_ONLY,
    ]
