"""The first answer on a connection of the load generator: read to its end and compared with the truth, byte for byte.

What follows on the connection is judged by status and length alone, so that the client stays faster than the server.
"""

from __future__ import annotations

import re
import socket

from bench.content import Truth, parse_path
from bench.fetch import Ask, WrongAnswer, check_head

_RECV_BYTES = 1 << 20
_LARGEST_HEAD_BYTES = 64 << 10
_REQUEST = re.compile(rb"GET ([^ ?]+)\S* HTTP/1\.1\r\n.*?(?:\r\nRange: bytes=(\d+)-(\d+))?\r\n\r\n", re.DOTALL)


def asked_by(request: bytes) -> Ask:
    """What a request of the load generator asks for; ValueError when it names no test object."""
    match = _REQUEST.fullmatch(request)
    parsed = parse_path(match[1].decode()) if match is not None else None
    if match is None or parsed is None:
        raise ValueError(f"{request[:80]!r} names no test object")
    number, length = parsed
    if match[2] is None:
        return Ask(number, length, 0, length, whole=True)
    return Ask(number, length, int(match[2]), int(match[3]) + 1)


def compare_first(sock: socket.socket, request: bytes, truth: Truth) -> None:
    """Send ``request`` on a blocking socket, read the whole answer and compare it. Raises ValueError."""
    ask = asked_by(request)
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(_RECV_BYTES)
        if not more or len(data) > _LARGEST_HEAD_BYTES:
            raise ValueError("no head in the first answer")
        data += more
    head, _separator, body = data.partition(b"\r\n\r\n")
    try:
        check_head(head, ask)
    except WrongAnswer as error:
        raise ValueError(str(error)) from error
    at = ask.start
    while True:
        if body != truth.read(ask.number, at, at + len(body)):
            raise ValueError(f"{ask.path}: wrong bytes in [{at}, {at + len(body)})")
        at += len(body)
        if at >= ask.stop:
            break
        body = sock.recv(min(_RECV_BYTES, ask.stop - at))
        if not body:
            raise ValueError(f"{ask.path}: closed at {at}")
    if at > ask.stop:
        raise ValueError(f"{ask.path}: more bytes than announced")
