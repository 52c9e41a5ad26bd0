"""Regular files alone, without waiting; a file is held by one process, under the name that it has."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from cacheserver.system.regular_file import folder_held, hold, open_regular, read_regular


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, str]:
    """Names that lead to something else than a regular file."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    names = {name: str(tmp_path / name) for name in ("fifo", "folder", "socket", "missing")}
    return names | {"endless": "/dev/zero", "nul": "a\0b"}


@pytest.mark.parametrize("what", ["fifo", "folder", "socket", "missing", "endless", "nul"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_what_is_no_regular_file_is_an_error_at_once(what: str, flags: int, odd: dict[str, str]) -> None:
    with pytest.raises(OSError):
        open_regular(odd[what], flags)


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert read_regular(str(path), 4) == b"1234"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_regular(str(path), 3)


def test_a_held_file_is_held_by_one(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    first = hold(path)
    with pytest.raises(BlockingIOError):
        hold(path)
    os.close(first)
    os.close(hold(path))


def test_a_file_that_lost_its_name_before_its_lock_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, finished = tmp_path / "file.part", tmp_path / "file"
    lock = fcntl.flock

    def late(fd: int, how: int) -> None:
        if not finished.exists():
            path.write_bytes(b"whole")
            path.rename(finished)
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    fd = hold(str(path))
    os.write(fd, b"begun")
    os.close(fd)
    assert (finished.read_bytes(), path.read_bytes()) == (b"whole", b"begun")


def test_the_wait_for_a_folder_ends(tmp_path: Path) -> None:
    held = folder_held(str(tmp_path), within_s=1.0)
    with held, pytest.raises(BlockingIOError), folder_held(str(tmp_path), within_s=0.0):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "file.part"
    path.write_bytes(b"theirs")
    os.chown(path, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        hold(str(path))
    assert path.read_bytes() == b"theirs"
