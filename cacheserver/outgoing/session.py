"""HTTP sessions and TLS contexts of a client, as all outgoing requests need them.

Owns: aiohttp's defaults that do harm here and are off: redirects are the caller's, no decompression, no cookies, no
proxy from the environment, no DNS cache, no total time-out, no body without a proper end. Must not send requests.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from cacheserver.core.errors import ConfigError
from cacheserver.core.plain_text import plain_text
from cacheserver.outgoing.aiohttp_parts import demand_proper_ends, reuse_trace

_READ_BUFFER_BYTES = 1 << 19
_LINE_BYTES = 16_384


def client_context(ca_file: str = "", *, key: str = "") -> ssl.SSLContext:
    """Return a context that checks chain, dates and name; ``ca_file``: a PEM bundle, or empty for the system's.

    Raises ConfigError, for the setting ``key``, when ``ca_file`` holds no certificates.
    """
    try:
        context = ssl.create_default_context(cadata=_bundle(ca_file) if ca_file else None)
    except (OSError, ValueError) as exc:
        raise ConfigError("cannot be used as a PEM bundle", where=ascii(ca_file)[1:-1], key=key) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _bundle(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("opening a FIFO would wait for its writer")
    with open(path, "rb") as file:
        text = plain_text(file.read()).decode("ascii", "ignore")  # comments in any language
    if "-----BEGIN " not in text:
        raise ValueError("the system's certificates would be taken for an empty text")
    return text


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts every certificate, to look at what a server presents."""
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def open_session(
    *,
    resolver: AbstractResolver | None,
    tls: ssl.SSLContext | None = None,
    limit: int = 0,
    limit_per_host: int = 0,
    idle_s: float = 15.0,
    connect_timeout_s: float | None = None,
) -> aiohttp.ClientSession:
    """Return a session; call in a running loop. The caller closes it, and ``resolver``, which it does not own.

    ``resolver``: None for the system's. ``limit``, ``limit_per_host``: connections, 0 for no limit. ``idle_s``: how
    long an idle connection is kept. ``connect_timeout_s`` also bounds how long sent bytes may stay unacknowledged: a
    firewall that has forgotten a connection drops its packets without a word.
    """
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        use_dns_cache=False,
        limit=limit,
        limit_per_host=limit_per_host,
        keepalive_timeout=idle_s,
        ssl=True if tls is None else tls,
        socket_factory=None if connect_timeout_s is None else partial(_socket, connect_timeout_s + 1.0),
    )
    demand_proper_ends(connector)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        read_bufsize=_READ_BUFFER_BYTES,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        trace_configs=[reuse_trace()],
    )


def _socket(unacknowledged_s: float, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unacknowledged_s * 1000))
    return made
