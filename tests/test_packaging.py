"""Units, installer, image and compose file: checked by the programs that read them, and held against the code."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from cacheserver.node.lifetime import WRITE_DOWN_S
from cacheserver.settings.schema import Settings
from cacheserver.system.socket_activation import KINDS

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "/opt/cacheserver/bin/cacheserver"
SCRIPTS = ("install.sh", ".ci/run", "tests/acceptance/image_run.sh")


def program(name: str) -> str:
    """Where ``name`` is; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def checked(*argv: str | Path) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=50, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as installed, but that the program is one that exists."""
    for unit in (ROOT / "systemd").glob("*.s[eo]*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, sys.executable))
    return tmp_path


def with_sockets(units: Path) -> Path:
    """The service with the drop-in for socket activation."""
    (units / "cacheserver.service.d").mkdir()
    shutil.copy(ROOT / "systemd/socket-activation.conf", units / "cacheserver.service.d")
    return units / "cacheserver.service"


def unit(name: str) -> configparser.RawConfigParser:
    """A unit as a table; of settings that occur several times the last one."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "systemd" / name)
    return parser


def test_systemd_understands_every_line_of_the_units(units: Path) -> None:
    analyze = program("systemd-analyze")
    with_sockets(units)
    files = [units / name for name in ("cacheserver.service", "cacheserver.socket", "cacheserver-tls.socket")]
    said = checked(analyze, "verify", "--man=no", *files)
    assert "cacheserver" not in said, said


def test_the_service_is_exposed_by_at_most_1_6(units: Path) -> None:
    checked(program("systemd-analyze"), "security", "--offline=true", "--threshold=16", units / "cacheserver.service")


def test_with_sockets_of_systemd_it_is_exposed_by_at_most_1_2(units: Path) -> None:
    checked(program("systemd-analyze"), "security", "--offline=true", "--threshold=12", with_sockets(units))


def test_the_service_gives_the_node_the_time_that_it_asks_for() -> None:
    service = unit("cacheserver.service")["Service"]
    assert float(service["TimeoutStopSec"]) >= Settings().server.drain_s + WRITE_DOWN_S
    assert (service["Type"], service["KillMode"], service["Restart"]) == ("notify", "mixed", "on-failure")
    assert float(service["WatchdogSec"]) >= 10


@pytest.mark.parametrize(("name", "kind", "port"), [("", "content", 80), ("-tls", "tls", 443)])
def test_the_socket_units_use_names_that_the_node_knows(name: str, kind: str, port: int) -> None:
    socket = unit(f"cacheserver{name}.socket")["Socket"]
    assert socket["FileDescriptorName"] == kind
    assert kind in KINDS
    text = (ROOT / f"systemd/cacheserver{name}.socket").read_text()
    assert re.findall(r"(?m)^ListenStream=(.*)$", text) == [f"0.0.0.0:{port}", f"[::]:{port}"]
    assert socket["BindIPv6Only"] == "ipv6-only"


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    checked(program("shellcheck"), "--shell=bash", name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_stop_at_the_first_failure(name: str) -> None:
    assert "\nset -euo pipefail\n" in (ROOT / name).read_text()


def test_the_installer_says_how_it_is_used_and_refuses_the_rest() -> None:
    assert "--wheels DIR" in checked("./install.sh", "--help")
    for arguments in (["remove"], ["install", "--nothing"], ["install", "--wheels"], ["uninstall", "--all"]):
        done = subprocess.run(["./install.sh", *arguments], capture_output=True, timeout=20, check=False, cwd=ROOT)
        assert done.returncode in (1, 2), arguments
        assert done.stderr


def test_the_installer_finds_the_lines_of_the_example_that_it_changes() -> None:
    example = (ROOT / "config/cacheserver.toml").read_text()
    assert example.count('\n# listen = ["0.0.0.0:8080"]\n') == 1
    assert (
        len(re.findall(r'(?m)^# \[\[store\.volumes\]\]\n# path = "/var/cache/cacheserver"\n# max_size = ', example))
        == 1
    )


def test_the_build_lock_pins_what_the_build_needs_by_its_digests() -> None:
    lock = (ROOT / "requirements-build.lock").read_text()
    pins = re.findall(r"(?m)^([a-z-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock)
    assert pins == ["setuptools"]


# -- the wheel --------------------------------------------------------------------------------------------------


def data_files() -> set[str]:
    """Every file of the package that is not Python, as a path below the checkout."""
    found = (path for path in (ROOT / "cacheserver").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if path.suffix != ".py"}


def test_every_data_file_is_named_as_one_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["cacheserver"]
    named = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / "cacheserver").glob(pattern)}
    assert named == data_files()
    assert {"cacheserver/data/page/index.html", "cacheserver/data/services.toml"} <= named


def test_a_built_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    if int(metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("the build needs setuptools 77 or later")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "cacheserver", source / "cacheserver", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("cacheserver/")}
    python = {path.relative_to(source).as_posix() for path in (source / "cacheserver").rglob("*.py")}
    assert held == data_files() | python


# -- the image --------------------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say() -> None:
    checked(program("hadolint"), "Dockerfile")


def test_the_image_copies_only_files_that_exist_and_runs_as_a_numbered_user() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", text):
        for source in line.split()[:-1]:
            assert source == "wheels*" or (ROOT / source).exists(), source
    assert re.findall(r"(?m)^USER (.*)$", text) == ["10001:10001"]
    assert text.count("--require-hashes") == 2


def test_compose_understands_its_file() -> None:
    checked(program("docker-compose"), "-f", "config/compose.yaml", "config", "-q")


def test_compose_mounts_only_files_of_the_product() -> None:
    text = (ROOT / "config/compose.yaml").read_text()
    mounts = re.findall(r"(?m)^ +- \./(\S+?):(/\S+):ro$", text)
    assert ("cacheserver.toml", "/etc/cacheserver/cacheserver.toml") in mounts
    parts = [source for source, _target in mounts if (ROOT / "config" / source.partition("/")[0]).exists()]
    assert "compose/datasource.yml" in parts
    for source in parts:
        assert (ROOT / "config" / source).exists(), source
