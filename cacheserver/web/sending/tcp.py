"""Options and figures of one TCP connection; source: tcp(7), ``struct tcp_info`` of Linux. Must not wait or judge."""

from __future__ import annotations

import socket
import struct

UNSENT_BYTES = 1 << 18
"""What the kernel takes for one client beyond what is on its way: an event loop's pass at 10 Gbit/s.

Without it a client that reads slowly has up to ``net.ipv4.tcp_wmem`` (4 MiB) waiting; a few hundred of them are more
than the kernel gives TCP in all, and it gives every connection less.
"""
LOOK_AGAIN_S = 0.05
"""After which a socket is tried again where no descriptor is left to wait with."""
_ESTABLISHED = 1
_ACKED_AT = 120
_INFO_BYTES = _ACKED_AT + 8
"""``tcpi_bytes_acked``, 64 bits in the order of the machine."""
_RESET = struct.pack("ii", 1, 0)


def serve_on(listening: socket.socket) -> None:
    """Options that each accepted connection takes over."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def acked_bytes(sock: socket.socket) -> int | None:
    """Bytes that the other side has acknowledged since the connection began; None where it cannot be known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    return int(struct.unpack_from("=Q", info, _ACKED_AT)[0]) if len(info) == _INFO_BYTES else None


def taken_bytes(sock: socket.socket, sent_bytes: int) -> int:
    """What the other side has taken; ``sent_bytes`` where only that is known, though the kernel may hold much of it."""
    acked = acked_bytes(sock)
    return sent_bytes if acked is None else acked


def is_established(sock: socket.socket) -> bool:
    """Whether neither side has closed; for TLS, where a transport swallows what comes too late."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except OSError:
        return False


def reset_on_close(sock: socket.socket) -> None:
    """Have what is unsent thrown away with the connection: a client that does not read leaves it in the kernel."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # closed already


def paces() -> bool:
    """Whether connections of this machine spread what they send by timers (the ``bbr`` kinds do)."""
    with socket.socket() as probe:
        return probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).startswith(b"bbr")
