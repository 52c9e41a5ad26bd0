"""A run of pytest that fails where a test is skipped that the table does not name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import EXPECTED

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
from tests.support.skips import UnexpectedSkipsFail

def pytest_configure(config):
    config.pluginmanager.register(UnexpectedSkipsFail({r"test_it\\.py::test_known\\[tls\\]": "cannot be had"}))
"""
KNOWN = """
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_known(kind):
    if kind == "tls":
        pytest.skip("no such thing")
"""
XFAIL = """
@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False
"""
SKIPPED = """
def test_known_too():
    pytest.skip("curl is not installed")
"""
MARKED = """
@pytest.mark.skipif(True, reason="needs root")
def test_marked():
    pass
"""
MODULE = """
pytest.skip("no such system", allow_module_level=True)
"""


def run(tmp_path: Path, *parts: str) -> tuple[int, str]:
    """Exit code and output of a run of one module."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("import pytest\n" + "".join(parts))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "test_it.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    return done.returncode, done.stdout + done.stderr


def test_expected_skips_and_expected_failures_pass(tmp_path: Path) -> None:
    code, out = run(tmp_path, KNOWN, XFAIL)
    assert (code, "1 passed, 1 skipped, 1 xfailed" in out) == (0, True), out


@pytest.mark.parametrize(
    ("part", "name", "reason"),
    [
        (SKIPPED, "test_it.py::test_known_too", "curl is not installed"),
        (MARKED, "test_it.py::test_marked", "needs root"),
        (MODULE, "test_it.py", "no such system"),
    ],
    ids=["in the test", "by a mark", "a whole module"],
)
def test_any_other_skip_fails_the_run_with_name_and_reason(part: str, name: str, reason: str, tmp_path: Path) -> None:
    code, out = run(tmp_path, KNOWN, part)
    assert code != 0, out
    assert f"{name} was skipped: " in out
    assert reason in out


@pytest.mark.parametrize("pattern", EXPECTED)
def test_every_row_names_a_test_that_exists(pattern: str) -> None:
    found = re.match(r"(?P<module>[^:]+)::(?P<test>\w+)", pattern.replace("\\", ""))
    assert found is not None
    assert f"def {found['test']}(" in (ROOT / found["module"]).read_text()
