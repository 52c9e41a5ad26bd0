"""Where a key of a TOML text stands: line numbers, which ``tomllib`` does not keep.

Owns: a scanner that knows just enough TOML 1.0 to see keys, tables and where values end. The text has been accepted
by ``tomllib`` before; the scanner never judges it, and stops quietly where it cannot follow.
"""

from __future__ import annotations

import json
import re
import tomllib

Path = tuple[str | int, ...]
"""Keys and array positions from the root: ``("store", "volumes", 0, "path")``."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every table header and key in ``text``; the first one where a path occurs twice."""
    scanner = _Scanner(text)
    try:
        scanner.run()
    except IndexError:
        pass  # the text ended inside a value: what was seen so far stands
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


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text.replace("\r\n", "\n") + "\n"
        self._at = 0
        self._line = 1
        self._table: Path = ()
        self._counts: dict[Path, int] = {}

    def run(self) -> None:
        while self._skip_blank() and self._at < len(self._text):
            if self._peek() == "[":
                self._header()
            else:
                self._pair(self._table)

    def _peek(self) -> str:
        return self._text[self._at]

    def _step(self, count: int = 1) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _skip_blank(self) -> bool:
        """Pass white space, line ends and comments."""
        while self._at < len(self._text):
            if self._peek() == "#":
                self._step(self._text.index("\n", self._at) - self._at)
            elif self._peek() in " \t\n":
                self._step()
            else:
                break
        return True

    def _header(self) -> None:
        line = self._line
        is_array = self._text.startswith("[[", self._at)
        self._step(2 if is_array else 1)
        keys = self._keys("]")
        self._step(2 if is_array else 1)
        table: Path = ()
        for key in keys[:-1]:
            table = self._last_element((*table, key))
        table = (*table, keys[-1])
        if is_array:
            self._counts[table] = self._counts.get(table, -1) + 1
            self.lines.setdefault(table, line)
        self._table = self._last_element(table)
        self.lines.setdefault(self._table, line)

    def _last_element(self, table: Path) -> Path:
        """``table``, or its newest element where it is an array of tables."""
        return (*table, self._counts[table]) if table in self._counts else table

    def _pair(self, table: Path) -> None:
        line = self._line
        path = table
        for key in self._keys("="):
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._step()
        self._value(path)

    def _keys(self, end: str) -> list[str]:
        """The parts of a dotted key, up to ``end`` (not passed)."""
        keys: list[str] = []
        while self._peek() != end:
            if self._peek() in " \t.":
                self._step()
            elif self._peek() in "\"'":
                keys.append(self._string())
            else:
                start = self._at
                while self._peek() not in f" \t.{end}\n":
                    self._step()
                keys.append(self._text[start : self._at])
                if self._peek() == "\n":
                    raise IndexError
        return keys

    def _value(self, path: Path) -> None:
        self._skip_blank()
        first = self._peek()
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._peek() not in ",]}#\n":
                self._step()

    def _array(self, path: Path) -> None:
        self._step()
        position = 0
        while self._skip_blank() and self._peek() != "]":
            if self._peek() == ",":
                self._step()
                continue
            self.lines.setdefault((*path, position), self._line)
            self._value((*path, position))
            position += 1
        self._step()

    def _inline_table(self, path: Path) -> None:
        self._step()
        while self._skip_blank() and self._peek() != "}":
            if self._peek() == ",":
                self._step()
            else:
                self._pair(path)
        self._step()

    def _string(self) -> str:
        """Pass one string of any of the four kinds; its value, which only keys need."""
        start = self._at
        quote = self._peek()
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._step(len(fence))
        while not self._text.startswith(fence, self._at):
            self._step(2 if quote == '"' and self._peek() == "\\" else 1)
        self._step(len(fence))
        while len(fence) == 3 and self._peek() == quote:
            self._step()  # up to two quotes may stand right before the closing fence
        literal = self._text[start : self._at]
        value: str = tomllib.loads(f"k = {literal}")["k"] if len(fence) == 1 else literal
        return value
