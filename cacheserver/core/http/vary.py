"""Vary and the keys of variants (RFC 9110 §12.5.5, RFC 9111 §4.1).

Owns: which request fields select a representation, and how their values become part of a key. Must not know what
the selecting fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from cacheserver.core.http.field_rules import is_token, list_members
from cacheserver.core.http.fields import Fields

ABSENT = "\x00"
"""Stands for a selecting field that the request does not carry; no field value holds NUL."""


def vary_names(response: Fields) -> tuple[str, ...] | None:
    """Names of the selecting fields, lower case, sorted, unique; empty without Vary.

    None for ``*``, and for a list with anything that is no field name: no later request can be known to match.
    """
    members = list_members(response.value("Vary") or "")
    if any(member == "*" or not is_token(member) for member in members):
        return None
    return tuple(sorted({member.lower() for member in members}))


def selecting_values(names: Iterable[str], request: Fields) -> tuple[str, ...]:
    """The request's value for each name: lines joined, white space around commas removed; ``ABSENT`` where missing."""
    values = (request.value(name) for name in names)
    return tuple(ABSENT if value is None else ",".join(list_members(value)) for value in values)


def variant_key(primary_key: str, names: Iterable[str], request: Fields) -> str:
    """The key of the variant that ``request`` selects; the primary key itself where nothing selects.

    Two requests get one key only if every selecting value is equal or absent in both.
    """
    ordered = sorted({name.lower() for name in names})
    if not ordered:
        return primary_key
    pairs = list(zip(ordered, selecting_values(ordered, request), strict=True))
    # JSON escapes every line break, so the last one in the key is the one before the pairs: no two inputs collide.
    return f"{primary_key}\n{json.dumps(pairs, separators=(',', ':'))}"
