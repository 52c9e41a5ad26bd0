"""Replacing a file as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.system.atomic_file import sync_folder, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_created_and_replaced_with_its_mode(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    for data, mode in ((b"one", 0o600), (b"two", 0o644)):
        write_atomically(str(path), data, mode=mode, durable=durable)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == mode
    assert names(tmp_path) == ["file"]


def test_an_existing_file_is_kept_where_it_may_not_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_atomically(str(path), b"new", replace=False)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_new_file_needs_no_replacement(tmp_path: Path) -> None:
    write_atomically(str(tmp_path / "file"), b"new", replace=False)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuses(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(str(path), b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_leftover_of_an_earlier_run_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"a longer leftover")
    write_atomically(str(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_planted_link_is_replaced_not_written_through(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"safe")
    plant(tmp_path / "file.new", victim)
    write_atomically(str(tmp_path / "file"), b"new")
    assert victim.read_bytes() == b"safe"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file", "victim"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_given_file_has_the_owner_of_its_predecessor_or_of_its_folder_and_the_mode_whatever_the_umask(
    tmp_path: Path,
) -> None:
    os.chown(tmp_path, 0, 7)
    path = tmp_path / "file"
    for owner in ((0, 7), (5, 6)):
        write_atomically(str(path), b"new", mode=0o666, give=True)
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*owner, 0o666)
        os.chown(path, 5, 6)


def test_what_a_link_names_is_replaced_where_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "file").symlink_to("real/file")
    for data in (b"one", b"two"):
        write_atomically(str(tmp_path / "file"), data, follow=True, durable=True)
        assert (tmp_path / "real" / "file").read_bytes() == data
    assert names(tmp_path) == ["file", "real"]
    assert names(tmp_path / "real") == ["file"]


def test_a_folder_without_a_name_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sync_folder("")
