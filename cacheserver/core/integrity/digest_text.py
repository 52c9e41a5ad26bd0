"""Digests as text: canonical base64 and lower-case hex, one spelling each.

Owns: reading and writing both. A second spelling of the same digest is refused, so that a changed byte is never
without effect.
"""

from __future__ import annotations

import base64
import re

_HEX = re.compile(r"(?:[0-9a-f]{2})*")


def from_base64(text: object, size_bytes: int) -> bytes:
    """The ``size_bytes`` raw bytes of padded standard base64 (RFC 4648 §4, zero pad bits). Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("is not text")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise ValueError("is not base64") from exc
    if len(raw) != size_bytes:
        raise ValueError(f"is base64 of {len(raw)} bytes, not of {size_bytes}")
    if to_base64(raw) != text:
        raise ValueError("is not canonical base64")
    return raw


def from_hex(text: object, size_bytes: int) -> bytes:
    """The ``size_bytes`` raw bytes of lower-case hex. Raises ValueError."""
    if not isinstance(text, str) or not _HEX.fullmatch(text) or len(text) != 2 * size_bytes:
        raise ValueError(f"is not {2 * size_bytes} lower-case hex digits")
    return bytes.fromhex(text)


def to_base64(raw: bytes) -> str:
    """Padded standard base64."""
    return base64.b64encode(raw).decode("ascii")
