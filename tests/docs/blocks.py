"""The blocks of README and docs: what kind each is, and what the comment before it says of it.

A comment directly before a block is a mark: ``not run: REASON``, ``exit N: REASON`` (how the block ends in the lab),
``prints: TEXT ... TEXT`` (its output has these parts in this order). Owns the reading of pages; runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
WRITTEN: Final = {
    "docs/real-clients.md": "make acceptance writes the page from the commands that it has run",
    "docs/reference.md": "generated, and tested in tests/tools",
}
"""Pages that a program writes."""
_MARK = re.compile(r"(not run|exit \d+|prints): (\S.*)", re.DOTALL)
_FENCE = re.compile(r" {0,3}```(\w*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """One block; ``kind`` is the word behind the fence, and ``sh`` where there is none."""

    page: str
    line: int
    kind: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str:
        """Why it is not run; empty for one that is."""
        return self.marks.get("not run", "")

    @property
    def exit_code(self) -> int:
        """What the block ends with."""
        return next((int(name.split()[1]) for name in self.marks if name.startswith("exit ")), 0)

    @property
    def printed(self) -> list[str]:
        """Parts of the output."""
        return [part.strip() for part in self.marks.get("prints", "").split("...") if part.strip()]


def pages() -> list[str]:
    """Every page that people write, relative to the checkout."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [name for path in found if (name := str(path.relative_to(ROOT))) not in WRITTEN]


def blocks(page: str) -> list[Block]:
    """The blocks of a page. Raises ValueError for a mark that says nothing known."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8").split("\n")))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        start = at
        if (fence := _FENCE.match(lines[at])) is not None:
            at = next(number for number in range(at + 1, len(lines)) if lines[number].strip() == "```")
            inside, kind = lines[start + 1 : at], fence[1] or "sh"
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            while at + 1 < len(lines) and (lines[at + 1].startswith("    ") or _goes_on(lines, at + 1)):
                at += 1
            inside, kind = [line[4:] for line in lines[start : at + 1]], "sh"
        else:
            at += 1
            continue
        at += 1
        yield Block(page, start + 1, kind, "\n".join(inside) + "\n", _marks(lines, start, f"{page}:{start + 1}"))


def _goes_on(lines: list[str], at: int) -> bool:
    """Whether an empty line is inside an indented block."""
    return not lines[at].strip() and at + 1 < len(lines) and lines[at + 1].startswith("    ")


def _marks(lines: list[str], start: int, place: str) -> dict[str, str]:
    """The comments that end directly above line ``start``."""
    found: dict[str, str] = {}
    while (above := "\n".join(lines[:start]).rstrip()).endswith("-->"):
        at = above.rindex("<!--")
        mark = _MARK.fullmatch(above[at + 4 : -3].strip())
        if mark is None:
            raise ValueError(f"{place}: the comment before the block is no mark: {above[at:]}")
        found[mark[1]] = " ".join(mark[2].split())
        start = above[:at].count("\n")
    return found
