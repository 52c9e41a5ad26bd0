r"""Regular expressions of operators that are matched against what clients send: none may take long for any text.

Owns: the bound of a pattern's work, from its structure alone. Python's engine tries every way to share a text out over
the repeats of a pattern, so that ``([a-z]+\.?)+x`` takes twice as long with each letter. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

_MOST_WAYS: Final = 1_000_000


def check_bounded(pattern: str, longest: int) -> None:
    """Raise ValueError where matching a text of ``longest`` characters could take too long, or is no pattern."""
    try:
        ways = _ways(_parser.parse(pattern), longest)
    except re.error as exc:
        raise ValueError(str(exc)) from exc
    if ways > _MOST_WAYS:
        raise ValueError("has so many repeats and alternatives that some texts would take long to match; use fewer")


def _ways(items: Iterable[tuple[Any, Any]], longest: int) -> int:
    """In how many ways the engine may try a sequence, at most."""
    ways = 1
    for operation, argument in items:
        ways = min(ways * _ways_of(operation, argument, longest), _MOST_WAYS + 1)
    return ways


def _ways_of(operation: Any, argument: Any, longest: int) -> int:
    if operation in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        least, most, body = argument
        inside = _ways(body, longest)
        if least == most and inside ** min(int(most), 20) <= _MOST_WAYS:
            return int(inside ** min(int(most), 20))
        if most > 1 and inside > 1:
            raise ValueError(
                "repeats what has a repeat or alternatives in it: some texts would take for ever to match; "
                r"write (?:[a-z0-9.-]+\.)? for (?:[a-z0-9-]+\.)*"
            )
        return inside * (min(int(most), longest) - min(int(least), longest) + 1)
    if operation is ops.BRANCH:
        return sum(_ways(branch, longest) for branch in argument[1])
    if operation is ops.SUBPATTERN:
        return _ways(argument[3], longest)
    if operation in (ops.ASSERT, ops.ASSERT_NOT):
        return _ways(argument[1], longest)
    if operation is ops.ATOMIC_GROUP:
        return _ways(argument, longest)
    if operation is ops.GROUPREF_EXISTS:
        return _ways(argument[1], longest) + _ways(argument[2] or (), longest)
    return 1
