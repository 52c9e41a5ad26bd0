"""Commands of root in a folder of the node's user: no file outside of it is written, read or shown."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from cacheserver.bundle.volumes import opened_volumes
from cacheserver.bundle.writer import BundleWriter
from cacheserver.cli import main as cli
from cacheserver.core.errors import ConfigError, DiskError
from cacheserver.fetch.part_file import PartFile
from cacheserver.store.options import StoreOptions, VolumeOptions
from tests.support.certificates import NAME

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is led astray")
_NOBODY = 65534
_SECRET = b"root:$y$j9T$not-for-others:19000:0:99999:7:::\n"
_NAMES = ("node.pem", "node.key", "node.key.csr", "key", "key.pub", "catalogue", "out", "out.part", "out.part.json")


class Folder:
    """A folder of another user in which each name of a command is a link to root's own file."""

    def __init__(self, room: Path) -> None:
        self.path, self.victim = room / "tls", room / "victim"
        self.victim.write_bytes(_SECRET)
        self.victim.chmod(0o600)
        self.path.mkdir()
        for name in _NAMES:
            (self.path / name).symlink_to(self.victim)
        (self.path / "sub").symlink_to(room)
        for path in (self.path, *self.path.iterdir()):
            os.lchown(path, _NOBODY, _NOBODY)

    def check(self, room: Path) -> None:
        """Nothing has happened outside of it."""
        found = self.victim.stat()
        assert (self.victim.read_bytes(), found.st_uid, found.st_mode & 0o777) == (_SECRET, 0, 0o600)
        assert sorted(path.name for path in room.iterdir()) == ["tls", "victim"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


_PAIR = ("--certificate", "node.pem", "--key", "node.key")


@pytest.mark.parametrize(
    "command",
    [
        ("tls", "self-signed", "--name", NAME, "--key-type", "p256", "--force", *_PAIR[:2], "--key", "fresh"),
        ("tls", "self-signed", "--name", NAME, "--key-type", "p256", "--certificate", "sub/new", "--key", "sub/key"),
        ("tls", "csr", "--name", NAME, "--key-type", "p256", "--force", "--key", "node.key"),
        ("tls", "csr", "--name", NAME, "--reuse-key", "--key", "node.key"),
        ("tls", "import", "node.pem", *_PAIR),
        ("tls", "show", "node.pem"),
        ("catalogue", "keygen", "sub/new"),
        ("catalogue", "add", "catalogue", "--path", "/a", "--from-file", "out"),
        ("catalogue", "sign", "catalogue", "--key", "key"),
        ("catalogue", "list", "catalogue"),
        ("doctor", "--config", "", "--p2p", "--bundle", "sub/new.tar.gz"),
        ("log", "summary", "out"),
        ("check-config", "out"),
    ],
)
def test_a_command_is_not_led_out_of_the_folder(
    command: Sequence[str],
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert cli.run(command) in (1, 2)
    folder.check(tmp_path)
    said = "".join(capsys.readouterr())
    assert "not-for-others" not in said
    assert "another user could have made the link" in said


def test_files_of_fetches_and_exports_are_not_led_out_of_it(folder: Folder, tmp_path: Path) -> None:
    for name in ("out", "sub/new"):
        with pytest.raises(DiskError):
            PartFile(str(folder.path / name))
        with pytest.raises(DiskError):
            BundleWriter(str(folder.path / name), None)
    folder.check(tmp_path)


def test_a_log_that_is_a_link_is_no_part_of_a_bundle(folder: Folder, tmp_path: Path) -> None:
    config = folder.path / "c.toml"
    config.write_text("[log]\naccess = maybe\n")
    made = folder.path / "b.tar.gz"
    assert cli.run(["doctor", "--config", str(config), "--bundle", str(made), "--log", str(folder.path / "out")]) == 3
    with tarfile.open(made) as archive:
        log = archive.extractfile("cacheserver-doctor/logs/0-out.txt")
        assert log is not None
        assert log.read().startswith(b"cannot be read: another user could have made the link")


def test_a_pair_is_written_into_the_folder_for_its_owner(folder: Folder) -> None:
    for name in ("node.pem", "node.key"):
        (folder.path / name).unlink()
    arguments = ["--certificate", str(folder.path / "node.pem"), "--key", str(folder.path / "node.key")]
    assert cli.run(["tls", "self-signed", "--name", NAME, "--key-type", "p256", *arguments]) == 0
    for name, mode in (("node.pem", 0o644), ("node.key", 0o600)):
        found = (folder.path / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (_NOBODY, _NOBODY, mode)


def test_a_volume_in_such_a_folder_is_not_opened_by_root(folder: Folder, tmp_path: Path) -> None:
    mode = tmp_path.stat().st_mode
    for name, reason in (("sub", "another user could have made"), ("volume", "another user can change")):
        store = StoreOptions(volumes=(VolumeOptions(path=str(folder.path / name)),))
        with pytest.raises(ConfigError, match=reason), opened_volumes(store):
            pass
    assert tmp_path.stat().st_mode == mode
    folder.check(tmp_path)
