"""The node's sockets: content, content over TLS, admin.

Owns: opening and closing them. What is answered on them is ``web``'s.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiohttp import web

from cacheserver.core.units import parse_listen
from cacheserver.node_status import NodeStatus
from cacheserver.rooms import Rooms
from cacheserver.settings import Settings
from cacheserver.tls import TlsOptions, load_into, server_context
from cacheserver.web.admin import admin_app
from cacheserver.web.admin_actions import AdminActions
from cacheserver.web.admin_pins import AdminPins

_BACKLOG = 1024
_HANDSHAKE_S = 10.0


class Listeners:
    """Every listening socket of one node. OSError when an address is taken, ConfigError for bad TLS files."""

    def __init__(self, rooms: Rooms, status: NodeStatus) -> None:
        self._rooms = rooms
        self._status = status
        self._servers: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None
        self._admin: web.AppRunner | None = None

    async def open(self, settings: Settings) -> dict[str, Any]:
        """Listen on everything; the addresses by kind, for the log."""
        if settings.server.listen_tls:
            self._tls = server_context(settings.tls)
        return {
            "content": [await self._listen(address, None) for address in settings.server.listen],
            "tls": [await self._listen(address, self._tls) for address in settings.server.listen_tls],
            "admin": await self._listen_admin(settings),
        }

    async def _listen(self, address: str, tls: ssl.SSLContext | None) -> str:
        host, port = parse_listen(address)
        server = await asyncio.get_running_loop().create_server(
            self._rooms.listener,
            host,
            port,
            backlog=_BACKLOG,
            reuse_address=True,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_S if tls is not None else None,
        )
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _listen_admin(self, settings: Settings) -> str:
        if not settings.admin.listen:
            return ""
        rooms = self._rooms
        actions = AdminActions(
            store=rooms.store,
            scrubber=rooms.scrubber,
            sources=rooms.sources.health,
            admit=rooms.admitted.target,
            clock=rooms.clock,
            is_pinned=rooms.pinning.is_pinned,
        )
        pins = AdminPins(pinning=rooms.pinning, admit=rooms.admitted.target)

        def add_actions(app: web.Application) -> None:
            actions.add_to(app)
            pins.add_to(app)

        app = admin_app(
            options=settings.admin,
            meter=rooms.meter,
            health=self._status.health,
            status=self._status.status,
            add_actions=add_actions,
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=60.0)
        await self._admin.setup()
        host, port = parse_listen(settings.admin.listen)
        await web.TCPSite(self._admin, host, port).start()
        bound = self._admin.addresses[0]
        return f"{bound[0]}:{bound[1]}"

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
