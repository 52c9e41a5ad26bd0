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
        "hit" if hit else None,
        None if fwd is None else f"fwd={fwd}",
        None if fwd_status is None else f"fwd-status={_integer(fwd_status)}",
        None if ttl_s is None else f"ttl={_integer(ttl_s)}",
        _boolean("stored", stored),
        _boolean("collapsed", collapsed),
        None if detail is None else f"detail={_token_or_string(detail)}",
    )
    return "; ".join((_token_or_string(node), *(parameter for parameter in parameters if parameter is not None)))


def _integer(number: int) -> str:
    return str(max(-_MAX_INTEGER, min(number, _MAX_INTEGER)))


def _boolean(name: str, value: bool | None) -> str | None:
    if value is None:
        return None
    return name if value else f"{name}=?0"


def _token_or_string(text: str) -> str:
    if _TOKEN.fullmatch(text) is not None:
        return text
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
