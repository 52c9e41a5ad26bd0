"""Nothing reaches a terminal as it came, and no command ends with a traceback, whatever its files are."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cacheserver.cli import main as cli
from cacheserver.cli import output
from tests.support.signals import as_from_a_terminal

RAW = "a\x1b]0;owned\x07\x9b31m\u202e\u2028\udcffb\rc\n\td"
FILE_COMMANDS = (
    ("check-config", "FILE"),
    ("health", "--config", "FILE"),
    ("doctor", "--config", "FILE"),
    ("firewall-list", "--config", "FILE"),
    ("log", "summary", "FILE"),
    ("catalogue", "list", "FILE"),
    ("catalogue", "sign", "FILE", "--key", "FILE"),
    ("catalogue", "verify", "FILE", "--trusted", "FILE"),
    ("catalogue", "add", "new.json", "--path", "/a", "--from-file", "FILE"),
    ("tls", "show", "FILE"),
    ("tls", "import", "FILE", "--certificate", "c.pem", "--key", "FILE"),
    ("import", "FILE", "--unsigned", "--cache-dir", "cache"),
    ("import", "x", "--trusted", "FILE", "--cache-dir", "cache"),
    ("export", "all", "x", "--key", "FILE", "--cache-dir", "cache"),
    ("fetch", "http://127.0.0.1:9/x", "-o", "out", "--manifest", "FILE"),
    ("fetch", "http://127.0.0.1:9/x", "-o", "FILE"),
    ("pins", "--admin", "127.0.0.1:9", "--token-file", "FILE"),
    ("verify", "FILE"),
)


def test_text_is_printed_with_everything_odd_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(RAW + "\r\nend", lines=True)
    assert capsys.readouterr().out == (r"a\x1b]0;owned\x07\x9b31m\u202e\u2028\udcffb\rc" + "\n" + r"\td" + "\r\nend\n")
    output.say(RAW + "\r\nend")
    assert capsys.readouterr().out == r"a\x1b]0;owned\x07\x9b31m\u202e\u2028\udcffb\rc\n\td\r\nend" + "\n"


def test_a_traceback_is_printed_with_everything_odd_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(RAW)
    except ValueError as exc:
        cli._tell_uncaught(ValueError, exc, exc.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert all(line.isprintable() for line in said.splitlines())


def test_commands_print_through_one_function() -> None:
    folder = Path(output.__file__).parent
    for path in set(folder.glob("*.py")) - {Path(output.__file__)}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"), path
                assert (
                    name != "say"
                    or not any(word.arg == "lines" for word in node.keywords)
                    or (path.name in ("main.py", "tls.py", "client_config.py"))
                ), f"{path} prints lines that may come from elsewhere"


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero", "garbage", "missing"])
@pytest.mark.parametrize("command", FILE_COMMANDS, ids=" ".join)
def test_a_file_of_any_kind_is_at_worst_one_line(
    command: tuple[str, ...],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    os.mkdir("folder")
    Path("garbage").write_bytes(os.urandom(5000))
    before = os.stat("/dev/zero").st_rdev
    code = cli.run([part.replace("FILE", kind) for part in command])
    captured = capsys.readouterr()
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in captured.err
    assert "fault of the command" not in captured.err
    assert all(line.isprintable() for line in (captured.out + captured.err).splitlines())
    assert os.stat("/dev/zero").st_rdev == before


def program(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cacheserver", *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "wb") as full, program("firewall-list", "--json", stdout=full.fileno()) as process:
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "cacheserver: error: No space left on device\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_without_a_traceback(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "cacheserver", "log", "summary", "-"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, preexec_fn=as_from_a_terminal, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdin is not None
        process.stdin.write(b"\n" * 1_000_000)  # more than a pipe holds: the command reads by now
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (
        (1, b"\ncacheserver: error: interrupted\n") if number is signal.SIGINT else (-number, b"")
    )
