"""The shape of the package: what lies at its top, how many layers it has, and that no two modules need each other."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

from tests.test_architecture import PACKAGE, ROOT, checked_layers

MOST_LAYERS = 12


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(text: str, modules: set[str]) -> set[str]:
    """The modules of the project that a file imports, those for type checkers included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & modules


def test_no_two_modules_import_each_other() -> None:
    texts = {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    graph = {name: imported(text, texts.keys() - {name}) for name, text in texts.items()}
    assert sum(len(names) for names in graph.values()) > len(graph)
    mutual = {
        (one, other) for one, other in combinations(sorted(graph), 2) if other in graph[one] and one in graph[other]
    }
    assert mutual == set()


def test_three_modules_stand_at_the_top() -> None:
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == ["__init__.py", "__main__.py", "ports.py"]


def test_there_are_few_layers() -> None:
    assert len(checked_layers()) <= MOST_LAYERS
