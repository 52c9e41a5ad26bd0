"""What a harness is given and what it hands back.

Owns the values alone: a scene says where to work and how much to do, a figure says what was measured and what was
outside the bar.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scene:
    """A directory of the harness's own, and whether the sizes of the table are wanted or those of a quick run."""

    directory: Path
    full: bool = False

    def size(self, full: int, reduced: int) -> int:
        """The number for this run."""
        return full if self.full else reduced

    def room(self, name: str) -> Path:
        """A new directory below this scene's."""
        room = self.directory / name
        room.mkdir(parents=True)
        return room


@dataclass(frozen=True, slots=True)
class Figure:
    """What came out; ``faults`` are the things outside the bar, in words."""

    text: str
    faults: Sequence[str] = ()

    @property
    def within(self) -> bool:
        """Whether the bar was kept."""
        return not self.faults

    def check(self) -> None:
        """Raise where the bar was not kept."""
        shown = "\n  ".join(self.faults[:10])
        assert self.within, f"{self.text}; {len(self.faults)} outside the bar:\n  {shown}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    attack: str
    bar: str
    measure: Callable[[Scene], Awaitable[Figure]]
