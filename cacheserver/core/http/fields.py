"""Field lines of a message (RFC 9110 §5), in the order and spelling in which they came.

Owns: case-insensitive look-up over an immutable list of field lines. Must not know what any field means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Fields:
    """An immutable list of ``(name, value)`` field lines; look-ups ignore the case of names."""

    __slots__ = ("_index", "_lines")

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._lines: tuple[tuple[str, str], ...] = tuple(lines)
        self._index: dict[str, list[str]] = {}
        for name, value in self._lines:
            self._index.setdefault(name.lower(), []).append(value)

    @classmethod
    def from_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Fields:
        """Build from wire bytes; octets above 0x7F are kept one to one as Latin-1 (RFC 9110 §5.5)."""
        return cls((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)

    def value(self, name: str) -> str | None:
        """All lines of ``name`` joined with ``", "`` (RFC 9110 §5.3), or None where there is none."""
        lines = self._index.get(name.lower())
        return None if lines is None else ", ".join(lines)

    def first(self, name: str) -> str | None:
        """The first line of ``name``, or None."""
        lines = self._index.get(name.lower())
        return None if lines is None else lines[0]

    def last(self, name: str) -> str | None:
        """The last line of ``name``, or None. Delivery Optimization's resumes need it for ``Range``."""
        lines = self._index.get(name.lower())
        return None if lines is None else lines[-1]

    def lines(self, name: str) -> tuple[str, ...]:
        """Every line of ``name`` in order; empty where there is none."""
        return tuple(self._index.get(name.lower(), ()))

    def without(self, *names: str) -> Fields:
        """A copy without the lines of these names."""
        drop = {name.lower() for name in names}
        return Fields(line for line in self._lines if line[0].lower() not in drop)

    def with_line(self, name: str, value: str) -> Fields:
        """A copy with one more line at the end."""
        return Fields((*self._lines, (name, value)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)

    def __repr__(self) -> str:
        return f"Fields({list(self._lines)!r})"
