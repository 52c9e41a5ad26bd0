"""JSON that can be read in one way only (RFC 8259 §4 leaves duplicate names open; they are refused here).

Owns: parsing untrusted JSON text into plain Python values. Knows no format; callers check shapes, and bound the size.
"""

from __future__ import annotations

import json
from typing import NoReturn


def strict_json(data: bytes) -> object:
    """The value of one UTF-8 JSON text without byte order mark.

    Raises ValueError, with one line of reason that repeats nothing of the text but a key, for duplicate names, NaN and
    Infinity, deep nesting, and everything that is not JSON.
    """
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as exc:
        raise ValueError("is not UTF-8") from exc
    except RecursionError as exc:
        raise ValueError("is nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON (line {exc.lineno}, column {exc.colno})") from exc
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"has the key {name[:40]!a} twice")
        made[name] = value
    return made


def _constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not JSON")
