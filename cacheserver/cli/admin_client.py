"""A running node's admin API, asked from the command line.

Owns: one request at a time, its deadline, and turning every failure into one line.
Blocking. Connects to the address that it is given and nowhere else: proxies of the environment are not for this.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from cacheserver.core.errors import AdminFailed
from cacheserver.core.strict_json import strict_json
from cacheserver.core.units import address_text
from cacheserver.logs.events import printable

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 8 << 20


class AdminClient:
    """The admin listener at ``(host, port)``; ``token`` empty: none is sent."""

    def __init__(self, address: tuple[str, int], token: str = "") -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at ``path``. Raises AdminFailed."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the node answers to a JSON body. Raises as ``get``."""
        return self._ask("POST", path, json.dumps(body).encode("ascii"))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else _words(exc)
            raise AdminFailed(f"no node answers on {address_text(*self._address)}: {reason}") from exc
        finally:
            connection.close()
        try:
            value = strict_json(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise AdminFailed(f"{address_text(*self._address)} is no admin listener of a node")
        if answer.status >= 400:
            raise AdminFailed(f"the node refuses ({answer.status}): {printable(str(value.get('error', '')), 200)}")
        return value


def _words(exc: Exception) -> str:
    return f"silent for {_TIMEOUT_S:g} s" if isinstance(exc, TimeoutError) else "the answer is no HTTP, or broke off"
