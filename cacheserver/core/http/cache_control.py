"""Cache-Control and Pragma (RFC 9111 §5.2, §5.4; RFC 5861; RFC 8246).

Owns: reading directives into one value. Must not decide what they mean for an answer (``core.cache.freshness``,
``core.cache.storable``). Never raises; whatever is ambiguous is read in the more restrictive way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cacheserver.core.http.field_rules import is_token, list_members
from cacheserver.core.http.fields import Fields

MAX_DELTA_S = 2**31
"""What a larger number of seconds counts as (RFC 9111 §1.2.2)."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBERS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "max-stale", "min-fresh"})
_QUALIFIED = frozenset({"no-cache", "private"})
_FLAGS = frozenset(
    {
        "no-store", "must-revalidate", "proxy-revalidate", "public", "immutable", "must-understand", "only-if-cached",
        "no-transform",
    }
)  # fmt: skip
# These allow something: with an argument that no specification gives them they are not believed.
_PERMISSIVE = frozenset({"public", "immutable", "must-understand"})


@dataclass(frozen=True, slots=True)
class CacheControl:
    """Directives of one message. Times in seconds, None where absent; False where a flag is absent."""

    max_age: int | None = None
    s_maxage: int | None = None
    no_store: bool = False
    no_cache: bool | tuple[str, ...] = False
    """True, or the lower-case field names of the qualified form."""
    private: bool | tuple[str, ...] = False
    """True, or the lower-case field names of the qualified form."""
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    public: bool = False
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    immutable: bool = False
    must_understand: bool = False
    max_stale: int | None = None
    """``MAX_DELTA_S`` where the client takes any staleness."""
    min_fresh: int | None = None
    only_if_cached: bool = False
    no_transform: bool = False


def parse_cache_control(value: str | None) -> CacheControl:
    """Read a (joined) Cache-Control value; never raises.

    A duplicate counts in its more restrictive reading; a number that is none counts as stale; one above
    ``MAX_DELTA_S`` as that. A malformed list of names counts as the unqualified directive.
    """
    numbers: dict[str, int] = {}
    names: dict[str, bool | tuple[str, ...]] = {}
    flags: dict[str, bool] = {}
    for member in list_members(value or ""):
        raw_name, equals, raw_argument = member.partition("=")
        name = raw_name.strip(" \t").lower()
        argument = _argument(raw_argument) if equals and raw_name == raw_name.strip(" \t") else None
        if name in _NUMBERS:
            _keep_stricter(numbers, name, _seconds(name, bool(equals), argument))
        elif name in _QUALIFIED:
            names[name] = _both(names.get(name, ()), _names(argument) if equals else True)
        elif name in _FLAGS and not (equals and name in _PERMISSIVE):
            flags[name] = True
    found: dict[str, Any] = {**numbers, **names, **flags}
    return CacheControl(**{name.replace("-", "_"): value for name, value in found.items()})


def response_cache_control(response: Fields) -> CacheControl:
    """The directives of an answer; all lines count."""
    return parse_cache_control(response.value("Cache-Control"))


def request_cache_control(request: Fields) -> CacheControl:
    """The directives of a request; ``Pragma: no-cache`` counts where there is no Cache-Control (RFC 9111 §5.4)."""
    if "Cache-Control" in request:
        return parse_cache_control(request.value("Cache-Control"))
    pragma = {member.lower() for member in list_members(request.value("Pragma") or "")}
    return CacheControl(no_cache=True) if "no-cache" in pragma else CacheControl()


def parse_delta_seconds(text: str) -> int | None:
    """Non-negative seconds, clamped to ``MAX_DELTA_S``, or None where the text is no such number (RFC 9111 §1.2.2)."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return MAX_DELTA_S if len(digits) > 10 else min(int(digits), MAX_DELTA_S)


def _argument(text: str) -> str | None:
    """The argument without quotes, or None where it is neither a token nor a quoted string."""
    if is_token(text):
        return text
    quoted = _QUOTED.fullmatch(text)
    return None if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)


def _seconds(name: str, has_argument: bool, argument: str | None) -> int:
    if name == "max-stale" and not has_argument:
        return MAX_DELTA_S
    number = None if argument is None else parse_delta_seconds(argument)
    if number is None:
        # The strictest reading; for min-fresh that is the largest number.
        return MAX_DELTA_S if name == "min-fresh" else 0
    return number


def _keep_stricter(numbers: dict[str, int], name: str, number: int) -> None:
    stricter = max if name == "min-fresh" else min
    numbers[name] = stricter(numbers.get(name, number), number)


def _names(argument: str | None) -> bool | tuple[str, ...]:
    found = () if argument is None else tuple(name.lower() for name in list_members(argument))
    return found if found and all(is_token(name) for name in found) else True


def _both(one: bool | tuple[str, ...], other: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(dict.fromkeys((*one, *other)))
    return True
