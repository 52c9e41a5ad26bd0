"""``python -O`` takes nothing away that a node needs: asserts do no work, and the tests of a running node pass."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene

_ROOT = Path(__file__).resolve().parents[2]
_QUICK = ("tests/node/test_ranges.py",)
_ALL = (
    "tests/node/test_request_forms.py", "tests/node/test_ranges.py", "tests/node/test_conditional.py",
    "tests/node/test_collapse.py", "tests/node/test_generation.py", "tests/node/test_verification.py",
    "tests/node/test_freshness.py", "tests/node/test_restart.py", "tests/security/test_smuggling.py",
)  # fmt: skip
_PURE = frozenset({"isinstance", "len", "state"})


def working_asserts() -> tuple[int, list[str]]:
    """Assert statements of the product, and those that do more than compare."""
    count, faults = 0, []
    for file in sorted((_ROOT / "cacheserver").rglob("*.py")):
        for statement in ast.walk(ast.parse(file.read_text())):
            if not isinstance(statement, ast.Assert):
                continue
            count += 1
            for part in ast.walk(statement.test):
                name = _called(part)
                working = isinstance(part, ast.Await | ast.NamedExpr | ast.Yield | ast.YieldFrom)
                if working or (name is not None and name not in _PURE):
                    faults.append(f"{file.relative_to(_ROOT)}:{statement.lineno} does work in an assert")
    return count, faults


def _called(part: ast.AST) -> str | None:
    if not isinstance(part, ast.Call):
        return None
    function = part.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "?")


async def run_tests(files: tuple[str, ...], timeout_s: float) -> tuple[int, str]:
    """Run test files against nodes under -O: how many passed, and the last line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *files),
        cwd=_ROOT,
        env={**os.environ, "TEST_NODE_FLAGS": "-O", "PYTEST_ADDOPTS": "-o addopts= -m 'not slow' -rN"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    last = output.strip().splitlines()[-1]
    passed = re.search(r"(\d+) passed", last)
    return (int(passed[1]) if passed and process.returncode == 0 else 0), last


async def measure(scene: Scene) -> Figure:
    """The asserts by their syntax, then tests of running nodes."""
    count, faults = working_asserts()
    passed, last = await run_tests(_ALL if scene.full else _QUICK, scene.size(1200, 500))
    faults += [] if passed else [f"under -O: {last}"]
    return Figure(f"{count} asserts, none does work; {passed} tests of nodes under -O passed", faults)


ROW = Row("python -O", "changes nothing", measure)


@pytest.mark.timeout(560)
async def test_a_node_without_asserts_does_the_same(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
