"""One member of Cache-Status (RFC 9211), written as a structured field item (RFC 8941).

Owns: the spelling. Must not decide what happened.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
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
