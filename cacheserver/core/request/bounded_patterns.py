r"""Regular expressions of operators that are matched against what clients send: none may take long for any text.

Owns: the bound of a pattern's work, from its structure alone. Python's engine tries every way to share a text out over
the repeats of a pattern, so that ``([a-z]+\.?)+x`` takes twice as long with each letter. A repeat of one character that
must end before a character which it cannot hold, as ``[a-z]+\.``, has one way. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

_MOST_WAYS: Final = 1_000_000
_REPEATS: Final = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_ONE_CHARACTER: Final = (ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY)
_Follow = frozenset[int] | None
"""Characters that may come next, none at the end of the text; None where that is not known."""


def check_bounded(pattern: str, longest: int) -> None:
    """Raise ValueError where a full match of ``longest`` characters could take too long, or is no pattern."""
    try:
        parsed = _parser.parse(pattern)
    except re.error as exc:
        raise ValueError(str(exc)) from exc
    plain = not parsed.state.flags & re.IGNORECASE and "(?i" not in pattern
    if _Bound(longest, follows=plain).ways(parsed, frozenset()) > _MOST_WAYS:
        raise ValueError("has so many repeats and alternatives that some texts would take long to match; use fewer")


class _Bound:
    """Counts for texts of ``longest`` characters; without ``follows`` nothing is made of what comes next."""

    def __init__(self, longest: int, *, follows: bool) -> None:
        self._longest = longest
        self._follows = follows

    def ways(self, items: Sequence[tuple[Any, Any]], follow: _Follow) -> int:
        """In how many ways the engine may try a sequence, at most, where ``follow`` comes behind it."""
        ways = 1
        for operation, argument in reversed(items):
            ways = min(ways * self._ways_of(operation, argument, follow), _MOST_WAYS + 1)
            follow = self._first_of(operation, argument)
        return ways

    def _ways_of(self, operation: Any, argument: Any, follow: _Follow) -> int:
        if operation in _REPEATS:
            least, most, body = argument
            return self._repeated(least, most, body, follow)
        if operation is ops.BRANCH:
            return sum(self.ways(branch, follow) for branch in argument[1])
        if operation is ops.SUBPATTERN:
            return self.ways(argument[3], follow)
        if operation in (ops.ASSERT, ops.ASSERT_NOT):
            return self.ways(argument[1], None)
        if operation is ops.ATOMIC_GROUP:
            return self.ways(argument, None)
        if operation is ops.GROUPREF_EXISTS:
            return self.ways(argument[1], None) + self.ways(argument[2] or (), None)
        return 1

    def _repeated(self, least: Any, most: Any, body: Sequence[tuple[Any, Any]], follow: _Follow) -> int:
        one = len(body) == 1 and body[0][0] in _ONE_CHARACTER
        if one and follow is not None and not any(_may_hold(*body[0], char) for char in follow):
            return 1
        again = self._first(body)
        inside = self.ways(body, follow if most == 1 else None if follow is None or again is None else follow | again)
        if least == most and inside ** min(int(most), 20) <= _MOST_WAYS:
            return int(inside ** min(int(most), 20))
        if most > 1 and inside > 1:
            raise ValueError(
                "repeats what has a repeat or alternatives in it: some texts would take for ever to match; "
                r"write (?:[a-z0-9-]+\.)* for (?:[a-z0-9-]+\.?)*"
            )
        return inside * (min(int(most), self._longest) - min(int(least), self._longest) + 1)

    def _first(self, items: Sequence[tuple[Any, Any]]) -> _Follow:
        return self._first_of(*items[0]) if len(items) else None

    def _first_of(self, operation: Any, argument: Any) -> _Follow:
        """Characters with which an item begins."""
        if not self._follows:
            return None
        if operation is ops.LITERAL:
            return frozenset({argument})
        if operation is ops.SUBPATTERN:
            return self._first(argument[3])
        if operation in _REPEATS and argument[0] >= 1:
            return self._first(argument[2])
        return None


def _may_hold(operation: Any, argument: Any, char: int) -> bool:
    """Whether an item may be this one character; True where that is not certain."""
    if operation is ops.LITERAL:
        return bool(argument == char)
    if operation is ops.NOT_LITERAL:
        return bool(argument != char)
    if operation is not ops.IN:
        return True
    negated = argument[0][0] is ops.NEGATE
    certain = True
    for kind, value in argument[negated:]:
        if (kind is ops.LITERAL and value == char) or (kind is ops.RANGE and value[0] <= char <= value[1]):
            return not negated
        certain = certain and kind in (ops.LITERAL, ops.RANGE)
    return negated or not certain
