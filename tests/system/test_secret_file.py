"""One rule for files with secrets: start, doctor, TLS key, installer and pages agree on the readers and the command."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.doctor.context import Context, DoctorOptions
from cacheserver.doctor.machine import config_checks
from cacheserver.node.preflight import warn_of_settings
from cacheserver.settings.load import Flags, load_settings
from cacheserver.system.secret_file import exposure, restoring, service_gid
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import read_pair

ROOT = Path(__file__).resolve().parents[2]
TOKEN = '[admin]\ntoken = "a-token-of-enough-characters"\n'
OWN = os.getegid()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cacheserver.toml"
    path.write_text(TOKEN)
    return path


@pytest.mark.parametrize(
    ("mode", "gid", "exposed"),
    [(0o600, OWN, False), (0o640, OWN, False), (0o644, OWN, True), (0o604, OWN, True), (0o640, OWN + 1, True)],
)
def test_owner_and_group_of_the_node_may_read_and_nobody_else(mode: int, gid: int, exposed: bool, file: Path) -> None:
    file.chmod(mode)
    assert bool(exposure(str(file), gid)) == exposed


def test_the_command_named_ends_the_warning_and_leaves_the_node_its_file(file: Path) -> None:
    file.chmod(0o666)
    command = exposure(str(file)).partition("; ")[2]
    subprocess.run(command, shell=True, check=True)
    assert exposure(str(file)) == ""
    assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (0o640, service_gid())


def test_start_doctor_and_tls_key_name_the_same_command(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.chmod(0o644)
    settings, command = load_settings(str(file), Flags()), restoring(str(file))
    warn_of_settings(str(file), settings)
    (told,) = [record.__dict__["facts"] for record in caplog.records if record.__dict__["event"] == "token_readable"]
    assert told["reason"].partition("; ")[2] == command
    (check,) = config_checks(str(file), Context(settings, DoctorOptions(), lambda: 0.0))
    assert (check.level, check.advice) == ("warn", command)
    with pytest.raises(ConfigError) as caught:
        read_pair(TlsOptions(certificate=str(file), key=str(file)))
    assert str(caught.value).endswith(command)


def test_the_installer_writes_the_settings_by_the_rule() -> None:
    text = (ROOT / "install.sh").read_text(encoding="utf-8")
    assert 'chown root:cacheserver "$CONFIG.new"' in text
    assert 'chmod 0640 "$CONFIG.new"' in text


def test_no_page_names_another_mode_for_the_settings_file() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for command in re.findall(r"ch(?:mod|grp|own) [^`\n]*cacheserver\.toml", page.read_text(encoding="utf-8")):
            assert re.fullmatch(r"chgrp cacheserver \S+ && chmod 640 \S+", command), f"{page.name}: {command}"
