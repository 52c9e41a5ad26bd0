"""The doctor's command where there is no node: wrong settings, wrong flags, and results that need no network."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from cacheserver.cli import main as cli
from cacheserver.doctor.context import Context, DoctorOptions
from cacheserver.doctor.machine import config_checks
from cacheserver.settings.load import Flags, load_settings


def test_wrong_settings_are_named_with_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[store]\npiece_size = '3MiB'\n")
    assert cli.run(["doctor", "--json", "--config", str(path)]) == 3
    report = json.loads(capsys.readouterr().out)
    (check,) = report["checks"]
    assert (check["name"], check["level"]) == ("config", "fail")
    assert check["found"] == f"{path}:2: store.piece_size: 3MiB is not a power of two"
    assert "correct it" in check["advice"]


def test_wrong_settings_still_make_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[admin]\ntoken = 'short-secret'\n")
    assert cli.run(["doctor", "--config", str(path), "--bundle", str(tmp_path / "b.tar.gz")]) == 3
    assert "0 warnings, 1 failure\n" in capsys.readouterr().out
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        names = [member.name.partition("/")[2] for member in archive]
        texts = [file.read() for member in archive if (file := archive.extractfile(member)) is not None]
    assert {"checks.json", "config.json"} <= set(names)
    assert "settings.json" not in names
    assert not any(b"short-secret" in text for text in texts)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--ca-file", "/nonexistent"],
        ["--service", "nonsense"],
        ["--config"],
        ["--range-url", "http://[x/"],
        ["--range-url", "ftp://h/x"],
        ["--endpoint", "a b"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_bundle_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[store]\npiece_size = '3MiB'\n")
    assert cli.run(["doctor", "--config", str(path), "--bundle", str(tmp_path / "no" / "b.tar.gz")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("mode", "level"), [(0o644, "warn"), (0o640, "ok"), (0o600, "ok")])
def test_settings_file_that_shows_its_token_is_named(mode: int, level: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[admin]\ntoken = 'a-token-of-enough-characters'\n")
    path.chmod(mode)
    context = Context(load_settings(str(path), Flags()), DoctorOptions(), lambda: 0.0)
    (check,) = config_checks(str(path), context)
    assert check.level == level


def test_ignored_setting_is_a_warning_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cacheserver.toml"
    path.write_text("[server]\nworkers = 2\n")
    context = Context(load_settings(str(path), Flags()), DoctorOptions(), lambda: 0.0)
    ignored, file = config_checks(str(path), context)
    assert (ignored.level, file.level) == ("warn", "ok")
    assert (ignored.checked, ignored.found) == ("server.workers", "is ignored")
