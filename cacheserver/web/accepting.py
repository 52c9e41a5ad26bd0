"""Accepts TLS connections: counted before the handshake, which has a deadline.

Owns: the sockets between accept and the end of the handshake. An event loop's own server makes a protocol for such a
socket only after the handshake: until then nothing could count it. Must not know what is answered.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from cacheserver.logs.events import event, get_logger
from cacheserver.web.connection_shares import ConnectionShares
from cacheserver.web.guarded_connection import GuardedConnection

_log = get_logger(__name__)
_AT_ONCE: Final = 32
"""Most connections that are accepted in one turn of the loop."""
_PAUSE_S: Final = 1.0


class SecureServer:
    """Accepts on one listening socket from construction on; ``close`` as for ``asyncio.Server``."""

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], GuardedConnection],
        *,
        shares: ConnectionShares,
        context: ssl.SSLContext,
        handshake_s: float,
        backlog: int,
    ) -> None:
        self._sock, self._factory, self._shares = sock, factory, shares
        self._context, self._handshake_s = context, handshake_s
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        sock.listen(backlog)
        self._watch()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket."""
        return (self._sock,)

    def close(self) -> None:
        """Accept nothing more; what is in a handshake is cut."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until no handshake is under way; after ``close``."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _watch(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:  # no descriptor is left: the socket would be readable in every turn
                event(_log, "accept_failed", severity=logging.ERROR, reason=exc.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self._watch)
                return
            connection = self._factory()
            if not self._shares.take(connection, peer[0] if isinstance(peer, tuple) else ""):
                sock.close()
                continue
            connection.handshake = task = self._loop.create_task(self._shake_hands(sock, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, sock: socket.socket, connection: GuardedConnection) -> None:
        def protocol() -> asyncio.Protocol:
            return connection

        sock.setblocking(False)
        timeout_s = self._handshake_s
        try:
            await self._loop.connect_accepted_socket(protocol, sock, ssl=self._context, ssl_handshake_timeout=timeout_s)
        except OSError:
            pass  # no TLS, a refused version, too late, or gone (ssl.SSLError is one)
        finally:
            connection.handshake = None
            if connection.transport is None:
                self._shares.give_back(connection)
