"""Taking secrets out of settings and logs before they leave the machine.

Owns: what counts as a secret: values of keys that say so, user information and queries of URLs, bearer tokens, private
keys, and every known secret wherever it stands. Rather takes out too much.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

REMOVED: Final = "(removed)"
_SECRET_KEY: Final = re.compile(r"(?i)(?:token|passw|secret|credential|authorization|api_?key|private)")
_QUERY: Final = re.compile(r"\?[^\s\"'<>|\\]+")
_USER: Final = re.compile(r"(?<=://)[^\s/@\"']+@")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic|digest|negotiate)\s+[A-Za-z0-9._~+/=-]{6,}")
_HEADER: Final = re.compile(r"(?im)^((?:proxy-)?authorization|cookie|set-cookie):.*$")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_NAMED: Final = re.compile(
    r"""(?ix)(["']?(?:[\w-]*(?:token|passw|secret|api_?key)[\w-]*)["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;}\]]+)"""
)
_LEAST_SECRET: Final = 6


def redact_text(text: str, secrets: Collection[str] = ()) -> str:
    """``text`` without secrets; ``secrets`` are values that are taken out wherever they stand."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, REMOVED)
    text = _PEM.sub(REMOVED, text)
    text = _HEADER.sub(rf"\1: {REMOVED}", text)
    text = _BEARER.sub(rf"\1 {REMOVED}", text)
    text = _NAMED.sub(rf"\1{REMOVED}", text)
    text = _USER.sub("", text)
    return _QUERY.sub(f"?{REMOVED}", text)


def redact_settings(value: Any, secrets: Collection[str] = ()) -> Any:
    """A settings tree (dicts, lists, plain values) without secrets."""
    if isinstance(value, dict):
        return {
            str(key): REMOVED if _SECRET_KEY.search(str(key)) and member else redact_settings(member, secrets)
            for key, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_settings(member, secrets) for member in value]
    if isinstance(value, str):
        return redact_text(value, secrets)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def secrets_of(value: Any) -> set[str]:
    """The values in a settings tree that its keys call secrets."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, member in value.items():
            if isinstance(member, str) and _SECRET_KEY.search(str(key)):
                found.add(member)
            else:
                found |= secrets_of(member)
    elif isinstance(value, list | tuple):
        for member in value:
            found |= secrets_of(member)
    return found
