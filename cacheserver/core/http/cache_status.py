"""One member of Cache-Status (RFC 9211), written as a structured field item (RFC 8941).

Owns: the spelling, and finding the status of a refusal that another node passes on. Must not decide what happened.
"""

from __future__ import annotations

import re

from cacheserver.core.http.field_rules import list_members

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_FORWARDED = re.compile(r"(?:^|;)[ \t]*fwd-status=([45][0-9]{2})(?![0-9])")
_MAX_INTEGER = 999_999_999_999_999


def cache_status(
    node: str,
    *,
    hit: bool,
    fwd: str | None = None,
    fwd_status: int | None = None,
    ttl_s: int | None = None,
    stored: bool | None = None,
    collapsed: bool | None = None,
    detail: str | None = None,
) -> str:
    """The member that says how ``node`` came by an answer.

    ``fwd`` is a token of RFC 9211 §2.2 (``miss``, ``stale``, ``partial``, …), ``ttl_s`` the lifetime left, negative
    for stale. None leaves a parameter out. Raises ValueError for ``hit`` with ``fwd``, or an ``fwd`` that is no token.
    """
    if hit and fwd is not None:
        raise ValueError("a hit was not forwarded (RFC 9211 §2.1)")
    if fwd is not None and _TOKEN.fullmatch(fwd) is None:
        raise ValueError(f"not a token: {fwd!r}")
    parameters = (
        ("hit", hit or None),
        ("fwd", fwd),
        ("fwd-status", fwd_status),
        ("ttl", ttl_s),
        ("stored", stored),
        ("collapsed", collapsed),
        ("detail", detail),
    )
    shown = (_parameter(name, value) for name, value in parameters if value is not None)
    return "; ".join((_token_or_string(node), *shown))


def forwarded_status(value: str | None) -> int | None:
    """The refusal (4xx, 5xx) that the cache nearest to us had from its own source, by its member, the last one."""
    members = list_members(value or "")
    found = _FORWARDED.search(members[-1]) if members else None
    return None if found is None else int(found[1])


def _parameter(name: str, value: bool | int | str) -> str:
    if isinstance(value, bool):
        return name if value else f"{name}=?0"
    if isinstance(value, int):
        return f"{name}={max(-_MAX_INTEGER, min(value, _MAX_INTEGER))}"
    return f"{name}={_token_or_string(value)}"


def _token_or_string(text: str) -> str:
    if _TOKEN.fullmatch(text) is not None:
        return text
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
