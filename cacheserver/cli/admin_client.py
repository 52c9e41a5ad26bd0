"""A running node's admin API, asked from the command line.

Owns: one request at a time, its deadline, and turning every failure into one line.
Blocking. Connects to the address that it is given and nowhere else: proxies of the environment are not for this.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from cacheserver.core.errors import AdminFailed
from cacheserver.core.strict_json import strict_json
from cacheserver.core.units import address_text
from cacheserver.logs.events import printable

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 8 << 20
_Answer = TypeVar("_Answer")


class AdminClient:
    """The admin listener at ``(host, port)``; ``token`` empty: none is sent."""

    def __init__(self, address: tuple[str, int], token: str = "") -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, kind: type[_Answer], *, within_s: float = _TIMEOUT_S) -> _Answer:
        """The JSON object at ``path``, whole ``within_s``. Raises AdminFailed, also where it has not this form."""
        return self._ask("GET", path, kind, within_s)

    def post(self, path: str, body: dict[str, Any], kind: type[_Answer]) -> _Answer:
        """What the node answers to a JSON body. Raises as ``get``."""
        return self._ask("POST", path, kind, _TIMEOUT_S, json.dumps(body).encode("ascii"))

    def _ask(self, method: str, path: str, kind: type[_Answer], within_s: float, body: bytes | None = None) -> _Answer:
        where = address_text(*self._address)
        status, data = self._exchange(method, path, within_s, body)
        try:
            value = strict_json(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise AdminFailed(f"{where} is no admin listener of a node")
        if status >= 400:
            raise AdminFailed(f"the node refuses ({status}): {printable(str(value.get('error', '')), 200)}", heard=True)
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            raise AdminFailed(f"{where} is no admin listener of a node, or of another version: {exc}") from exc

    def _exchange(self, method: str, path: str, within_s: float, body: bytes | None) -> tuple[int, bytes]:
        """Status and body."""
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(*self._address, timeout=within_s)
        expired = threading.Event()
        try:
            connection.connect()
            with _ended_after(within_s, connection.sock, expired):
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                data = answer.read(_MOST_BYTES)
                if expired.is_set():
                    raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = (isinstance(exc, OSError) and exc.strerror) or "the answer is no HTTP, or broke off"
            if expired.is_set() or isinstance(exc, TimeoutError):
                reason = f"no whole answer within {within_s:g} s"
            raise AdminFailed(f"no node answers on {address_text(*self._address)}: {reason}") from exc
        finally:
            connection.close()
        return answer.status, data


@contextlib.contextmanager
def _ended_after(within_s: float, sock: socket.socket, expired: threading.Event) -> Iterator[None]:
    """Break the connection then: the time-out of a socket is for one read, and a peer that drips never meets it."""

    def end() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
