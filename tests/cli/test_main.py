"""The command line: exit codes, one-line errors, and what serve hands to the node."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import cacheserver
from cacheserver.cli import main as cli
from cacheserver.core.errors import ConfigError, DiskError
from cacheserver.settings.schema import Settings

Load = Callable[[], Settings]
Run = Callable[[Load], int]


@pytest.fixture
def node_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts a function in the place of ``node.run``."""

    def install(run: Run) -> None:
        module = ModuleType("cacheserver.node.lifetime")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cacheserver.node.lifetime", module)
        monkeypatch.setattr(cacheserver, "node", module, raising=False)

    return install


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cacheserver: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_check_config_says_ok_and_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[[store.volumes]]\npath = '/a'\nmax_size = '1.5TiB'\n")
    for arguments in (["check-config", "--config", str(path)], ["check-config", str(path)]):
        assert cli.run(arguments) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"ok: {path}: listen on 0.0.0.0:8080; admin on 127.0.0.1:8081; 1.5TiB in /a; ")


def test_check_config_names_line_and_key_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[store]\npiece_size = '3MiB'\n")
    assert cli.run(["check-config", str(path)]) == 2
    assert error_line(capsys) == f"cacheserver: error: {path}:2: store.piece_size: 3MiB is not a power of two\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--nonsense"],
        ["nonsense"],
        ["serve", "--listen"],
        ["check-config", "a", "b"],
        ["check-config", "a", "--config", "b"],
        ["check-config", "--max-size", "a\nb\x1b[31m\u202e"],
        ["check-config", "--allow", "*"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    line = error_line(capsys)
    assert line.rstrip("\n").isprintable()
    assert line.isascii()


def test_serve_checks_settings_before_it_imports_the_node_loop(
    node_run: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(load: Load) -> int:
        load()
        raise AssertionError("unreachable")

    node_run(run)
    assert cli.run(["serve", "--listen", "x"]) == 2
    assert "--listen" in error_line(capsys)


def test_serve_hands_every_flag_to_the_node_and_loads_anew_each_time(
    node_run: Callable[[Run], None], tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[store]\nio_threads = 2\n")
    seen: list[Settings] = []

    def run(load: Load) -> int:
        seen.append(load())
        path.write_text("[store]\nio_threads = 3\n")
        seen.append(load())
        return 0

    node_run(run)
    flags = "--listen 127.0.0.1:0 --listen [::1]:0 --admin-listen 127.0.0.1:0 --cache-dir /c --max-size 2GiB"
    more = "--allow a.example --allow b.example:81 --connect-to a.example=127.0.0.1:9 --log-level debug"
    assert cli.run(["serve", "--config", str(path), *flags.split(), *more.split()]) == 0
    assert [settings.store.io_threads for settings in seen] == [2, 3]
    first = seen[0]
    assert first.server.listen == ("127.0.0.1:0", "[::1]:0")
    assert first.admin.listen == "127.0.0.1:0"
    assert (first.store.volumes[0].path, first.store.volumes[0].max_size) == ("/c", "2GiB")
    assert first.allow == ("a.example", "b.example:81")
    assert first.upstream.connect_to == {"a.example": "127.0.0.1:9"}
    assert first.log.level == "debug"


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (ConfigError("bad", where="f:1", key="k"), 2, "f:1: k: bad"),
        (DiskError("cache directory /c cannot be used"), 1, "cannot be used"),
        (OSError(errno.EADDRINUSE, "Address already in use"), 1, "ddress already in use"),
        (PermissionError(errno.EACCES, "Permission denied", "/c\n"), 1, "/c"),
    ],
)
def test_trouble_at_run_time_is_one_line_without_a_traceback(
    error: Exception, code: int, part: str, node_run: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_load: Load) -> int:
        raise error

    node_run(run)
    assert cli.run(["serve"]) == code
    assert part in error_line(capsys)


def test_exit_code_of_the_node_is_the_exit_code(node_run: Callable[[Run], None]) -> None:
    node_run(lambda _load: 1)
    assert cli.run(["serve"]) == 1


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cacheserver", "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == f"cacheserver {cacheserver.__version__}\n"


def test_closed_pipe_is_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cacheserver", "firewall-list"], stdout=write_end, stderr=subprocess.PIPE, timeout=30
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_command_that_was_started_without_standard_descriptors_gives_their_numbers_to_nothing_else() -> None:
    code = (
        "import os; os.closerange(0, 3)\n"
        "from cacheserver.cli.main import _fill_standard_descriptors as fill; fill()\n"
        "null = os.stat(os.devnull)\n"
        "os._exit(0 if all(os.path.samestat(os.fstat(fd), null) for fd in range(3)) else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
