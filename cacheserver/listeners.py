"""The node's sockets: content, content over TLS, admin.

Owns: opening and closing them, or taking those that were opened for the node. What is answered on them is ``web``'s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from cacheserver.core.errors import ConfigError
from cacheserver.core.units import parse_listen
from cacheserver.inherited import Inherited
from cacheserver.node_status import NodeStatus
from cacheserver.rooms import Rooms
from cacheserver.settings import Settings
from cacheserver.tls import TlsOptions, load_into, server_context
from cacheserver.web.admin import admin_app
from cacheserver.web.admin_actions import AdminActions

_BACKLOG = 1024
_HANDSHAKE_S = 10.0


class Listeners:
    """Every listening socket of one node. OSError when an address is taken, ConfigError for bad TLS files.

    A kind of which ``inherited`` has sockets is served on those, and not on the addresses of the settings.
    """

    def __init__(self, rooms: Rooms, status: NodeStatus, inherited: Inherited | None = None) -> None:
        self._rooms = rooms
        self._status = status
        self._inherited = inherited or Inherited()
        self._servers: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None
        self._admin: web.AppRunner | None = None

    async def open(self, settings: Settings) -> dict[str, Any]:
        """Listen on everything; the addresses by kind, for the log."""
        server, inherited = settings.server, self._inherited
        if server.listen_tls or inherited.tls:
            self._tls = server_context(settings.tls)
        return {
            "content": await self._listen_all(server.listen, inherited.content, None),
            "tls": await self._listen_all(server.listen_tls, inherited.tls, self._tls),
            "admin": await self._listen_admin(settings),
        }

    async def _listen_all(
        self, addresses: Sequence[str], sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
    ) -> list[str]:
        if sockets:
            return [await self._listen(tls, sock=sock) for sock in sockets]
        places = [parse_listen(address) for address in addresses]
        return [await self._listen(tls, host=host, port=port, reuse_address=True) for host, port in places]

    async def _listen(self, tls: ssl.SSLContext | None, **where: Any) -> str:
        server = await asyncio.get_running_loop().create_server(
            self._rooms.listener,
            backlog=_BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_S if tls is not None else None,
            **where,
        )
        self._servers.append(server)
        return _shown(server.sockets[0].getsockname())

    async def _listen_admin(self, settings: Settings) -> str:
        sockets = self._inherited.admin
        if not settings.admin.listen and not sockets:
            return ""
        if self._inherited.reaches_admin_from_outside() and not settings.admin.token:
            raise ConfigError("the admin socket is not on loopback: a token is needed", key="admin.token")
        rooms = self._rooms
        actions = AdminActions(
            store=rooms.store,
            scrubber=rooms.scrubber,
            sources=rooms.sources.health,
            admit=rooms.admitted.target,
            clock=rooms.clock,
        )
        app = admin_app(
            options=settings.admin,
            meter=rooms.meter,
            health=self._status.health,
            status=self._status.status,
            add_actions=actions.add_to,
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=60.0)
        await self._admin.setup()
        if sockets:
            for sock in sockets:
                await web.SockSite(self._admin, sock).start()
        else:
            host, port = parse_listen(settings.admin.listen)
            await web.TCPSite(self._admin, host, port).start()
        return _shown(self._admin.addresses[0])

    def reload_tls(self, options: TlsOptions) -> None:
        """Take up replaced certificate files; ConfigError leaves the old ones in use."""
        if self._tls is not None:
            load_into(self._tls, options)

    def close_content(self) -> None:
        """Take no more clients."""
        for server in self._servers:
            server.close()

    async def close_admin(self) -> None:
        """Take no more administrators."""
        if self._admin is not None:
            await self._admin.cleanup()


def _shown(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
