"""What a check says: one line with what was checked, what was found and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cacheserver.logs.events import printable

Level: TypeAlias = Literal["ok", "warn", "fail"]
Group: TypeAlias = Literal["health", "mcc", "p2p"]
_TEXT_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Check:
    """One result. ``name`` is a fixed word for scripts; an ok check may carry advice too, as a hint."""

    name: str
    level: Level
    checked: str
    found: str
    advice: str = ""

    def line(self) -> str:
        """The result on one line of printable ASCII."""
        text = f"{self.level:<4}  {self.name}: {self.checked}: {self.found}"
        if self.advice:
            text += f" -> {self.advice}"
        return printable(text, 4 * _TEXT_LIMIT)

    def as_json(self) -> dict[str, str]:
        """The result as JSON values."""
        return {
            "name": self.name,
            "level": self.level,
            "checked": printable(self.checked, _TEXT_LIMIT),
            "found": printable(self.found, 2 * _TEXT_LIMIT),
            "advice": printable(self.advice, 2 * _TEXT_LIMIT),
        }


def named(hosts: list[str], most: int = 4) -> str:
    """The first few of ``hosts``, and how many more there are."""
    shown = ", ".join(hosts[:most])
    return shown if len(hosts) <= most else f"{shown} and {len(hosts) - most} more"
