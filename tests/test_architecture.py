"""The page about the architecture says what the imports say."""

from __future__ import annotations

import ast
import configparser
import re
from collections import defaultdict
from pathlib import Path

from cacheserver.core.object_life import LIFE, Life

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cacheserver"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ENTRANCE = {"__init__", "__main__"}


def packages() -> set[str]:
    """Every folder and module directly in the package."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.stem for path in PACKAGE.glob("*.py")} - ENTRANCE


def drawn_layers() -> list[set[str]]:
    """The layers of the diagram, the highest first."""
    drawing = re.search(r"```layers\n(.*?)```", PAGE, re.DOTALL)
    assert drawing is not None, "the page has no diagram of layers"
    return [set(line.split()) for line in drawing[1].splitlines() if line.strip()]


def checked_layers() -> list[set[str]]:
    """The layers that import-linter holds the code to."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    lines = contract["importlinter:contract:layers"]["layers"].split("\n")
    return [set(re.findall(r"cacheserver\.(\w+)", line)) - ENTRANCE for line in lines if "cacheserver." in line]


def imported_packages(path: Path) -> set[str]:
    """Packages that a file imports, those for type checkers included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("cacheserver"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cacheserver.")}
    return found & packages()


def test_the_diagram_shows_the_layers_that_are_checked() -> None:
    assert drawn_layers() == [layer for layer in checked_layers() if layer]


def test_every_import_leads_down_or_sideways_in_the_diagram() -> None:
    height = {package: -number for number, layer in enumerate(drawn_layers()) for package in layer}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        package = parts[0] if len(parts) > 1 else path.stem
        if package in ENTRANCE or package not in height:
            continue
        wrong += [
            f"{package} imports {other}"
            for other in imported_packages(path)
            if height.get(other, -99) > height[package]
        ]
    assert not wrong


def test_every_package_has_a_row_in_the_table_of_packages() -> None:
    table = PAGE[PAGE.index("## Packages") : PAGE.index("## Invariants")]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    named = re.findall(r"`([\w*]+)(?:/|\.py)`", first_cells)
    patterns = [re.compile(name.replace("*", r"\w*") + r"\Z") for name in named]
    assert sorted(package for package in packages() if not any(pattern.match(package) for pattern in patterns)) == []


def test_every_module_and_test_that_the_page_names_exists() -> None:
    modules = re.findall(r"(?<![\w/<])((?:\w+/)+\w+)(?:\.py|\b)", PAGE)
    named = {name for name in modules if name.split("/")[0] in packages()}
    assert len(named) > 30
    missing = [name for name in named if not (PACKAGE / f"{name}.py").exists() and not (PACKAGE / name).is_dir()]
    tests = re.findall(r"(test_\w+)\.py(?:::(test_\w+))?", PAGE)
    texts: defaultdict[str, str] = defaultdict(str)
    for path in ROOT.glob("tests/**/test_*.py"):
        texts[path.stem] += path.read_text(encoding="utf-8")
    missing += [f"{file}::{test}" for file, test in tests if file not in texts or test not in texts[file]]
    assert missing == []


def test_the_page_shows_the_table_of_an_objects_life() -> None:
    for state in Life:
        leads = [f"{event.name} → {then.name}" for (now, event), then in LIFE.items() if now is state]
        assert f"| {state.name} | {state.value} | {', '.join(leads) or 'none'} |" in PAGE
