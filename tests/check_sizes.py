"""Files and functions stay small enough to be read at once: prints offenders, exit 1 over a hard limit."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_AIM, FILE_LIMIT = 300, 400
FUNCTION_AIM, FUNCTION_LIMIT = 40, 60
FOLDERS = ("cacheserver", "tests", "bench", "tools", "docs")


def measured(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """``(what, lines, aim, limit)`` of one Python file and of each function in it."""
    text = path.read_text(encoding="utf-8")
    yield str(path), text.count("\n"), FILE_AIM, FILE_LIMIT
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            what = f"{path}:{node.lineno} {node.name}"
            yield what, node.end_lineno - node.lineno + 1, FUNCTION_AIM, FUNCTION_LIMIT


def main(root: Path) -> int:
    """Check every Python file below ``root``; 1 where something is over its hard limit."""
    failed = False
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for what, lines, aim, limit in measured(path):
                if lines > limit:
                    failed = True
                    print(f"too long: {what}: {lines} lines, limit {limit}")
                elif lines > aim:
                    print(f"warning: {what}: {lines} lines, aim {aim}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
