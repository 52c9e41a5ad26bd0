"""One accepted connection with what every listener asks of it: a place in the listener's count, and deadlines.

Owns: the count from the first moment to the last, and the deadline for a head, which runs from its first byte (an empty
line before it too) until there is a head. Must not know what is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from cacheserver.web.aiohttp_adapter import ServerConnection
from cacheserver.web.connection_shares import ConnectionShares


class GuardedConnection(ServerConnection):
    """aiohttp's protocol, counted and with deadlines."""

    __slots__ = ("_head_timeout_s", "_head_timer", "_shares", "handshake")

    def __init__(
        self,
        manager: Any,
        *,
        shares: ConnectionShares,
        head_timeout_s: float,
        loop: asyncio.AbstractEventLoop,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._shares = shares
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self.handshake: asyncio.Task[None] | None = None
        """Has the connection counted already, and ends it when it is cancelled."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or close it when there are too many."""
        transport = cast(asyncio.Transport, transport)
        peername = transport.get_extra_info("peername")
        if not self._shares.take(self, peername[0] if isinstance(peername, tuple) else ""):
            self.disown()
            transport.abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._shares.give_back(self)
        self._stop_head_timer()
        super().connection_lost(exc)

    def cut(self) -> None:
        """End the connection at once: its place is for another one."""
        if self.transport is not None:
            self.transport.abort()
        elif self.handshake is not None:
            self.handshake.cancel()

    def data_received(self, data: bytes) -> None:
        """To the parser; a part of a head has a deadline from here on."""
        if self.feed(data):
            self._stop_head_timer()
        if self.unfinished_bytes and self._head_timer is None:
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(self._head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        """A head that has begun is not complete: it may wait for the answers before it, and for nothing else."""
        if self.waits:
            self.force_close()
        else:
            self._start_head_timer()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
