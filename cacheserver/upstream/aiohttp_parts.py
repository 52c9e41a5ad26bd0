"""The private parts of aiohttp's client that upstream requests need; ``RELIED_ON`` lists them.

Owns: these uses. Must not decide when a request is tried again.
"""

from __future__ import annotations

from typing import Final

import aiohttp

RELIED_ON: Final = {
    (aiohttp.ClientSession, "_retry_connection"): "false: a request on a reused connection is not sent a second time",
    (aiohttp.StreamReader, "_read_nowait"): "bytes that have come, also after an error",
}


def disable_retries(session: aiohttp.ClientSession) -> None:
    """Have a failed request fail, also on a connection that was kept open."""
    session._retry_connection = False


def received_bytes(content: aiohttp.StreamReader) -> bytes:
    """Bytes that came before a body broke off: aiohttp's reader raises without giving them out."""
    return content._read_nowait(-1) if isinstance(content, aiohttp.StreamReader) else b""
