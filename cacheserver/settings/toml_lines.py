"""Where a key of a TOML text stands: line numbers, which ``tomllib`` does not keep.

Owns: a scanner that knows just enough TOML 1.0 to see keys, tables and where values end. The text has been accepted
by ``tomllib`` before; the scanner never judges it, and stops quietly where it cannot follow.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]
"""Keys and array positions from the root: ``("store", "volumes", 0, "path")``."""
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
# Up to two quotes may stand right before the closing three of a string over several lines.
_TOKEN: Final = re.compile(
    r"""(?sx) [ \t]+ | \#[^\n]* | (?P<token> \"{3} (?:\\.|[^\\])*? \"{3,5}(?!\") | '{3} .*? '{3,5}(?!')
    | \" (?:\\.|[^\"\\])* \" | '[^']*' | [\n=,\[\]{}] | [^\s=,\[\]{}\#\"']+ )"""
)


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every table header and key in ``text``; the first one where a path occurs twice."""
    scanner = _Scanner(text.replace("\r\n", "\n") + "\n")
    with contextlib.suppress(StopIteration):  # the end, or a text that ends inside a value: what was seen stands
        scanner.run()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Line of ``path``, or of the nearest thing around it; None where even its table is not in the text."""
    for stop in range(len(path), 0, -1):
        if (line := lines.get(path[:stop])) is not None:
            return line
    return None


def dotted(path: Path) -> str:
    """``store.volumes[0].path`` for people; keys that are not bare are quoted, escaped and cut at 80 characters."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.match(part) else json.dumps(part[:80])
            text += f".{name}" if text else name
    return text


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Strings, brackets, ``=``, commas, line ends and all other words, each with its line."""
    line = 1
    for found in _TOKEN.finditer(text):
        if found["token"] is not None:
            yield found["token"], line
            line += found["token"].count("\n")


class _Scanner:
    """Reads a text; ``_token`` is the next token. StopIteration at its end."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._tokens = _tokens(text)
        self._token, self._line = next(self._tokens)
        self._counts: dict[Path, int] = {}
        """Position of the newest element of each array of tables."""

    def run(self) -> None:
        table: Path = ()
        while True:
            if self._token == "\n":
                self._step()
            elif self._token == "[":
                table = self._header()
            else:
                self._pair(table)

    def _step(self) -> None:
        self._token, self._line = next(self._tokens)

    def _header(self) -> Path:
        """The table that ``[a.b]`` or ``[[a.b]]`` begins."""
        line = self._line
        self._step()
        is_array = self._token == "["
        table: Path = ()
        for key in self._keys("]"):
            table = (*self._newest(table), key)
        if is_array:
            self._counts[table] = self._counts.get(table, -1) + 1
            self.lines.setdefault(table, line)
        table = self._newest(table)
        self.lines.setdefault(table, line)
        while self._token != "\n":
            self._step()
        return table

    def _newest(self, table: Path) -> Path:
        """``table``, or its newest element where it is an array of tables."""
        return (*table, self._counts[table]) if table in self._counts else table

    def _keys(self, end: str) -> list[str]:
        """The parts of a dotted key, up to ``end`` (not passed)."""
        keys: list[str] = []
        while self._token != end:
            if self._token[0] in "\"'":
                keys.append(next(iter(tomllib.loads(f"{self._token} = 0"))))
            elif self._token != "[":
                keys.extend(part for part in self._token.split(".") if part)
            self._step()
        return keys

    def _pair(self, table: Path) -> None:
        line, path = self._line, table
        for key in self._keys("="):
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._step()
        self._value(path)

    def _value(self, path: Path) -> None:
        """Pass one value: all up to the comma, bracket or line end behind it."""
        position = 0
        opened = self._token
        if opened in ("[", "{"):
            self._step()
            while self._token != ("]" if opened == "[" else "}"):
                if self._token in (",", "\n"):
                    position += self._token == ","
                    self._step()
                elif opened == "{":
                    self._pair(path)
                else:
                    self.lines.setdefault((*path, position), self._line)
                    self._value((*path, position))
            self._step()
        while self._token not in (",", "]", "}", "\n"):
            self._step()
