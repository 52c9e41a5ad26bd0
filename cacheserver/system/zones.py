"""IPv6 addresses with a zone (RFC 4007 §11), as ``fe80::1%eth0``: between their text and what the socket calls take.

Owns: the number of the zone's interface. Must not resolve names.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from cacheserver.core.units import address_text, is_ip


def socket_address(host: str, port: int) -> tuple[Any, ...] | None:
    """What ``bind`` and ``connect`` take for a literal address; None for a name. OSError: there is no such zone."""
    if not is_ip(host):
        return None
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0][4]


def own_address_text(sock: socket.socket) -> str:
    """Where a socket is bound, as URLs and operators write it."""
    host, port, *more = sock.getsockname()
    if len(more) == 2 and more[1] and "%" not in host:
        with contextlib.suppress(OSError):  # an interface may have gone
            host = f"{host}%{socket.if_indextoname(more[1])}"
    return address_text(host, port)
