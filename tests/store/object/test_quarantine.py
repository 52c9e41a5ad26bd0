"""Copies of bad pieces: private, bounded, and never in the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cacheserver.store.object import quarantine
from cacheserver.store.object.quarantine import Quarantine


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def aged(directory: Path, name: str, second: int) -> None:
    os.utime(directory / name, (second, second))


def test_a_copy_is_private_to_the_nodes_user(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path / "q"))
    assert kept.keep("a-1", b"bad")
    assert (tmp_path / "q" / "a-1").read_bytes() == b"bad"
    assert (tmp_path / "q" / "a-1").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700


def test_the_newest_files_stay(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path), most_files=3, most_bytes=1000)
    for number in range(6):
        assert kept.keep(f"a-{number}", b"x")
        aged(tmp_path, f"a-{number}", 1000 + number)
    assert names(tmp_path) == {"a-3", "a-4", "a-5"}
    assert kept.count == 3


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path), most_files=64, most_bytes=10)
    for number in range(4):
        assert kept.keep(f"a-{number}", b"12345")
        aged(tmp_path, f"a-{number}", 1000 + number)
    assert names(tmp_path) == {"a-2", "a-3"}
    assert not kept.keep("large", b"x" * 11)


def test_a_piece_that_went_bad_again_replaces_its_copy(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path))
    assert kept.keep("a-1", b"first")
    assert kept.keep("a-1", b"2nd")
    assert (tmp_path / "a-1").read_bytes() == b"2nd"
    assert kept.count == 1


@pytest.mark.parametrize("name", ["../a", "a/b", "/a"])
def test_names_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    assert not Quarantine(str(tmp_path / "q")).keep(name, b"x")
    assert not (tmp_path / "a").exists()


def test_a_link_in_the_place_of_the_directory_or_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "q").symlink_to(tmp_path / "elsewhere")
    assert not Quarantine(str(tmp_path / "q")).keep("a-1", b"x")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a-1").symlink_to(tmp_path / "victim")
    assert Quarantine(str(tmp_path / "real")).keep("a-1", b"x")
    assert (tmp_path / "victim").read_text() == "mine"


def test_what_an_earlier_run_left_is_counted(tmp_path: Path) -> None:
    Quarantine(str(tmp_path)).keep("a-1", b"x")
    later = Quarantine(str(tmp_path))
    later.refresh()
    assert later.count == 1


def test_a_disk_that_fails_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Quarantine(str(tmp_path / "file" / "q"))
    assert not kept.keep("a-1", b"x")
    kept.refresh()
    assert kept.count == 0


def test_a_copy_that_cannot_be_written_whole_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, _mode: str) -> None:
        os.close(fd)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(quarantine, "open", full, raising=False)
    assert not Quarantine(str(tmp_path)).keep("a-1", b"x")
    assert names(tmp_path) == set()
