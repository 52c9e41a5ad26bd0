"""Connections of the admin listener: few, a share for each client, with deadlines; an administrator always gets one.

Owns: the numbers, and the bound of what may come without making a request. When all connections are taken, the oldest
one without a request under way is ended for the new one: who opens them and is silent keeps nobody out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.web.connection_shares import ConnectionShares
from cacheserver.web.guarded_connection import GuardedConnection

MOST: Final = 64
PER_CLIENT: Final = 32
_HEAD_S: Final = 10.0
_IDLE_S: Final = 60.0
_MAX_HEAD_BYTES: Final = 1 << 15


class AdminConnection(GuardedConnection):
    """A guarded connection whose requests may have bodies: it gives aiohttp what comes as it comes."""

    __slots__ = ("_unfinished_bytes",)

    def __init__(self, manager: Any, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._unfinished_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Whether ``data`` made no part of a head wait; bytes that make no request are bounded."""
        parsed = self.give(data)
        self._unfinished_bytes = 0 if parsed or not self.waits else self._unfinished_bytes + len(data)
        if self._unfinished_bytes > _MAX_HEAD_BYTES:
            self.force_close()
        return not self._unfinished_bytes

    @property
    def unfinished_bytes(self) -> int:
        """Bytes that have come since the last request or body."""
        return self._unfinished_bytes


class AdminConnections:
    """Makes the connections of one admin application's server; ``on_limit`` as for ``ConnectionShares``."""

    def __init__(self, server: web.Server, *, on_limit: Callable[[str, str], None]) -> None:
        self._server = server
        self._shares = ConnectionShares(
            most=MOST, per_client=PER_CLIENT, shared=SharedNetworks(), on_limit=on_limit, frees=True
        )

    def __call__(self) -> AdminConnection:
        """Protocol factory for ``loop.create_server``."""
        return AdminConnection(
            self._server,
            shares=self._shares,
            head_timeout_s=_HEAD_S,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_IDLE_S,
            access_log=None,
        )
