"""check-config finds what the start of a node would find, for the node's user, and names all of it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import cacheserver
from cacheserver.cli import main as cli
from tests.support.certificates import Pki, key_pem, new_key

PKI = Pki()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def problems(capsys: pytest.CaptureFixture[str], path: Path, text: str) -> list[str]:
    """The lines of a check that finds something wrong."""
    path.write_text(text)
    assert cli.run(["check-config", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(line.startswith(f"cacheserver: error: {path}") for line in lines)
    return [line.removeprefix(f"cacheserver: error: {path}") for line in lines]


def test_all_problems_are_named_with_their_lines_not_the_first_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """\
allow = ["*", "good.example"]
[server]
listen_tls = ["0.0.0.0:8443"]
listne = []
[store]
piece_size = "3MiB"
io_threads = "four"
[admin]
listen = "nonsense"
token = "short"
[services.one]
hosts = ["a b"]
[services.two]
hosts = []
"""
    found = problems(capsys, folder / "c.toml", text)
    keys = [line.split(": ")[:2] for line in found]
    assert sorted(keys) == sorted(
        [
            [":1", "allow[0]"],
            [":4", "server.listne"],
            [":7", "store.io_threads"],
            [":9", "admin.listen"],
            [":10", "admin.token"],
            [":12", "services.one.hosts"],
            [":14", "services.two.hosts"],
            ["", "tls.certificate"],
            ["", "tls.key"],
        ]
    )


def test_a_value_of_a_wrong_type_in_a_list_of_tables_is_one_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[[store.volumes]]\npath = 5\n[[subnets]]\nname = "a"\n[log]\nlevel = "loud"\n'
    keys = [line.split(": ")[1] for line in problems(capsys, folder / "c.toml", text)]
    assert keys == ["store.volumes[0].path", "subnets[0].networks", "log.level"]


def spoil_missing(folder: Path) -> str:
    (folder / "node.pem").unlink()
    return "No such file"


def spoil_other_key(folder: Path) -> str:
    (folder / "node.key").write_bytes(key_pem(new_key()))
    return "does not belong to tls.key"


def spoil_loose(folder: Path) -> str:
    (folder / "node.key").chmod(0o644)
    return "chmod 640"


def tls_settings(folder: Path) -> Path:
    issued = PKI.issue()
    (folder / "node.pem").write_bytes(issued.chain_pem)
    (folder / "node.key").write_bytes(key_pem(issued.key))
    (folder / "node.key").chmod(0o600)
    path = folder / "c.toml"
    path.write_text(
        f'[server]\nlisten_tls = ["127.0.0.1:8443"]\n[tls]\ncertificate = "node.pem"\nkey = "node.key"\n'
        f'[[store.volumes]]\npath = "{folder}/none-yet"\nmax_size = "1GiB"\n'
    )
    return path


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_other_key, spoil_loose])
def test_a_certificate_with_which_no_node_starts_is_a_problem(
    spoil: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tls_settings(folder)
    assert cli.run(["check-config", str(path)]) == 0
    capsys.readouterr()
    assert callable(spoil)
    words = spoil(folder)
    assert cli.run(["check-config", str(path)]) == 2
    assert words in capsys.readouterr().err


COMMAND = """
import encodings.utf_8_sig, sys
from cacheserver.cli.main import run
from cacheserver.settings.shipped import load_shipped_services
load_shipped_services()
sys.exit(run(sys.argv[1:]))
"""
"""With what Python imports late: another user may not be able to read the interpreter of the tests."""


def checked(path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A check by a program that every user can read."""
    package = path.parent / "package"
    if not package.exists():
        shutil.copytree(Path(cacheserver.__path__[0]), package / "cacheserver")
    command = (sys.executable, "-c", COMMAND, "check-config", *flags, "--config", str(path))
    env = {**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can check for another user")
def test_what_the_nodes_user_cannot_read_or_write_is_a_problem_that_root_does_not_have(folder: Path) -> None:
    path = tls_settings(folder)
    (folder / "none-yet").mkdir()
    assert checked(path).returncode == 0
    found = checked(path, "--user", "nobody")
    assert found.returncode == 2
    key, volume = sorted(found.stderr.splitlines(), key=lambda line: "store.volumes" in line)
    assert f"{folder}/node.key: tls.key: cannot be read: Permission denied" in key
    assert "belongs to another user" in volume
    for name in ("node.key", "none-yet"):
        os.chown(folder / name, 65534, 65534)
    assert checked(path, "--user", "nobody").returncode == 0
    path.chmod(0o600)
    assert "cannot read the file" in checked(path, "--user", "nobody").stderr


def test_a_user_that_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check-config", "--config", "", "--user", "no-such-user-here"]) == 2
    assert capsys.readouterr().err == "cacheserver: error: --user no-such-user-here: there is no such user\n"


def test_a_descriptor_limit_that_is_too_low_is_a_warning_with_what_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "c.toml").write_text("[store]\nopen_objects = 4096\n")
    for limit, told in ((65536, False), (1024, True), (resource.RLIM_INFINITY, False)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, limit=limit: (limit, limit))
        assert cli.run(["check-config", str(folder / "c.toml")]) == 0
        assert ("warning: the descriptor limit of 1024 leaves" in capsys.readouterr().err) == told
