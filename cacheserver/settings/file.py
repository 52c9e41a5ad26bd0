"""The settings file: its text, its lines, and plain words for what does not fit the options classes.

Owns: bounded reading, TOML syntax errors with their line, and the translation of msgspec's messages. Knows no setting
by name but the two tables with free keys.
"""

from __future__ import annotations

import difflib
import errno
import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final, get_args, get_type_hints

import msgspec

from cacheserver.core.errors import ConfigError
from cacheserver.core.plain_text import plain_text
from cacheserver.core.shown import without_value
from cacheserver.core.units import Size
from cacheserver.logs.events import printable
from cacheserver.settings.toml_lines import Path, key_lines
from cacheserver.system.regular_file import read_regular

_FILE_LIMIT_BYTES: Final = 4 * 1024 * 1024
_SYNTAX_PLACE = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)\Z")
_FAULT_PLACE = re.compile(r"(?s)(.*) - at `\$\.?(.*)`\Z")
_UNKNOWN_FIELD = re.compile(r"(?s)Object contains unknown field `(.*)`\Z")
_MISSING_FIELD = re.compile(r"Object missing required field `(\w+)`\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of the setting at ``path``; ``message`` is one sentence without a full stop."""

    path: Path
    message: str


def read_toml(path: str) -> tuple[dict[str, Any], dict[Path, int]]:
    """The parsed file at ``path`` and the line of each of its keys.

    Raises ConfigError where it cannot be read, is larger than 4 MiB, not UTF-8, or not TOML.
    """
    text = _read_text(path)
    try:
        return tomllib.loads(text), key_lines(text)
    except (ValueError, RecursionError) as exc:
        raise _syntax_error(path, text, exc) from exc


def _read_text(path: str) -> str:
    try:
        raw = read_regular(path, _FILE_LIMIT_BYTES)
    except OSError as exc:
        reason = "larger than 4 MiB" if exc.errno == errno.EFBIG else exc.strerror
        raise ConfigError(f"cannot read the file: {reason}", where=printable(path, 300)) from exc
    try:
        return plain_text(raw).decode()
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError("not UTF-8", where=f"{printable(path, 300)}:{line}") from exc


def _syntax_error(path: str, text: str, exc: Exception) -> ConfigError:
    message = "nested too deeply" if isinstance(exc, RecursionError) else printable(str(exc), 200)
    place = _SYNTAX_PLACE.search(message)
    where = printable(path, 300)
    if place is not None:
        last_line = text.rstrip("\n").count("\n") + 1
        where += f":{place.group(1) or last_line}"
    return ConfigError(_SYNTAX_PLACE.sub("", message).strip(), where=where)


def parse_size_value(_kind: type, value: object) -> Size:
    """A ``dec_hook`` for ``msgspec.convert``: the size in ``value``. Raises TypeError or ValueError."""
    try:
        return Size(msgspec.convert(value, str))
    except msgspec.ValidationError as exc:  # msgspec adds the path to a TypeError only
        raise TypeError(str(exc)) from exc


def schema_problem(message: str, data: dict[str, Any], root: type[msgspec.Struct]) -> Problem:
    """The path and a plain sentence for the ValidationError ``message`` of ``msgspec.convert(data, root)``."""
    place = _FAULT_PLACE.match(message)
    fault, at = (place.group(1), place.group(2)) if place else (message, "")
    path = _fault_path(at, data)
    if (missing := _MISSING_FIELD.match(fault)) is not None:
        return Problem((*path, missing.group(1)), "is missing")
    if (unknown := _UNKNOWN_FIELD.match(fault)) is not None:
        name = unknown.group(1)
        known = [item.name for item in msgspec.structs.fields(_struct_at(root, path))]
        close = difflib.get_close_matches(name, known, n=1)
        kind = "setting" if path or not isinstance(data.get(name), dict) else "section"
        return Problem((*path, name), f"unknown {kind}" + (f"; did you mean {close[0]}?" if close else ""))
    plain = without_value(fault).replace("`", "").replace("object", "table")
    return Problem(path, plain[:1].lower() + plain[1:])


def _fault_path(at: str, data: Any) -> Path:
    """``store.volumes[0].path`` as a path; ``[...]``, which hides the key, stands for the first value at fault."""
    path: Path = ()
    for part in re.findall(r"[^.\[\]]+|\[(?:\d+|\.\.\.)\]", at):
        key: str | int = part
        if part == "[...]":
            wanted: type = dict if path == ("services",) else str
            key = next((name for name, value in data.items() if not isinstance(value, wanted)), "?")
        elif part.startswith("["):
            key = int(part[1:-1])
        path = (*path, key)
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            break
    return path


def _struct_at(root: type[msgspec.Struct], path: Path) -> type[msgspec.Struct]:
    kind: Any = root
    for part in path:
        kind = get_type_hints(kind)[part] if isinstance(part, str) else get_args(kind)[0]
    found: type[msgspec.Struct] = kind
    return found
