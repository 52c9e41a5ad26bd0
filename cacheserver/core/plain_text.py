"""Text files as editors on Windows leave them: with a byte order mark, in UTF-16, or put together out of such files.

Owns: the one form in which all others read keys, certificates and settings. Pure.
"""

from __future__ import annotations

import codecs
from typing import Final

_WIDE: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def plain_text(data: bytes) -> bytes:
    """The text in UTF-8 without byte order marks; what is no text stays as it is."""
    encoding = _WIDE.get(data[:2])
    if encoding is not None:
        try:
            data = data.decode(encoding).encode()
        except UnicodeDecodeError:
            return data
    if not data.startswith(codecs.BOM_UTF8) and b"-----BEGIN " not in data:
        return data  # DER, which may hold any bytes
    return data.replace(codecs.BOM_UTF8, b"")
