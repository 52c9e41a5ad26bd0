"""The way to a name: the links of root are followed, and none that another user could have made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cacheserver.system.place import reach, remove, rename
from cacheserver.system.regular_file import open_regular, read_regular

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is led astray")
_NOBODY = 65534


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another user, beside a file of root."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "victim").write_bytes(b"safe")
    os.chown(folder, _NOBODY, _NOBODY)
    return folder


def opened_to(folder: Path, mode: int, gid: int = 0) -> None:
    """Make it root's, and open to others by its mode."""
    os.chown(folder, 0, gid)
    folder.chmod(mode)


@pytest.mark.parametrize("way", ["file", "folder/victim", "sub/../folder/victim", "sub/up", "loop"])
def test_no_link_in_a_folder_of_another_user_is_followed(way: str, theirs: Path) -> None:
    (theirs / "sub").mkdir()
    (theirs / "file").symlink_to("../mine/victim")
    (theirs / "folder").symlink_to(theirs.parent / "mine")
    (theirs / "sub" / "up").symlink_to("../../mine/victim")  # the folder is root's, and lies in theirs
    (theirs / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="another user could have made") as caught:
        reach(str(theirs / way))
    assert caught.value.filename == str(theirs / way)
    with pytest.raises(OSError, match="another user could have made"):
        read_regular(str(theirs / way), 100)


@pytest.mark.parametrize(("mode", "gid"), [(0o777, 0), (0o775, _NOBODY), (0o757, 0)])
def test_a_folder_that_others_may_write_to_is_as_one_of_theirs(mode: int, gid: int, theirs: Path) -> None:
    (theirs / "file").symlink_to("../mine/victim")
    opened_to(theirs, mode, gid)
    with pytest.raises(OSError, match="another user could have made"):
        reach(str(theirs / "file"))


def test_in_a_sticky_folder_the_links_of_root_alone_are_followed(theirs: Path) -> None:
    (theirs / "mine").symlink_to("../mine/victim")
    (theirs / "other").symlink_to("../mine/victim")
    os.lchown(theirs / "other", _NOBODY, _NOBODY)
    opened_to(theirs, 0o1777)
    assert read_regular(str(theirs / "mine"), 9) == b"safe"
    with pytest.raises(OSError, match="another user could have made"):
        read_regular(str(theirs / "other"), 9)


def test_links_in_folders_of_root_are_followed_however_many_parts_they_have(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"found")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to("./b/../b")
    (tmp_path / "last").symlink_to("link/again/file")
    assert read_regular(str(tmp_path / "last"), 9) == b"found"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        reach(str(tmp_path / "loop"))


def test_a_second_name_of_a_file_is_not_read_in_a_folder_of_another_user(theirs: Path) -> None:
    (theirs / "file").hardlink_to(theirs.parent / "mine" / "victim")
    with pytest.raises(PermissionError, match="other names"):
        open_regular(str(theirs / "file"))


def test_open_files_are_reached_by_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"open")
    with open(tmp_path / "file", "rb") as file:
        (tmp_path / "file").unlink()
        assert read_regular(f"/dev/fd/{file.fileno()}", 9) == b"open"


def test_names_are_given_and_removed_where_the_way_leads_and_not_through_links_at_its_end(theirs: Path) -> None:
    victim = theirs.parent / "mine" / "victim"
    (theirs / "part").write_bytes(b"new")
    (theirs / "whole").symlink_to(victim)
    rename(str(theirs / "part"), str(theirs / "whole"))
    assert ((theirs / "whole").read_bytes(), (theirs / "whole").is_symlink()) == (b"new", False)
    remove(str(theirs / "whole"))
    (theirs / "away").symlink_to(victim.parent)
    with pytest.raises(OSError, match="another user could have made"):
        remove(str(theirs / "away" / "victim"))
    assert victim.read_bytes() == b"safe"


def test_missing_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    with reach(str(tmp_path / "a" / "b" / "file"), make=True):
        pass
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileNotFoundError):
        reach(str(tmp_path / "c" / "file"))
