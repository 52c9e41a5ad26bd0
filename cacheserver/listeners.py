"""The node's sockets: content, content over TLS, admin.

Owns: opening and closing them. What is answered on them is ``web``'s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from aiohttp import web

from cacheserver.core.units import parse_listen
from cacheserver.node_status import NodeStatus
from cacheserver.rooms import Rooms
from cacheserver.settings import Settings
from cacheserver.tls.current import CurrentCertificate
from cacheserver.web.admin import admin_app
from cacheserver.web.admin_actions import AdminActions
from cacheserver.web.admin_pins import AdminPins
from cacheserver.workers.acceptor import Acceptor

_BACKLOG = 1024
_HANDSHAKE_S = 10.0


class Listeners:
    """Every listening socket of one node. OSError when an address is taken, ConfigError for bad TLS files."""

    def __init__(self, rooms: Rooms, status: NodeStatus, certificate: CurrentCertificate) -> None:
        self._rooms = rooms
        self._status = status
        self._servers: list[asyncio.Server] = []
        self._acceptors: list[Acceptor] = []
        self._certificate = certificate
        self._admin: web.AppRunner | None = None

    async def open(self, settings: Settings) -> dict[str, Any]:
        """Listen on everything; the addresses by kind, for the log."""
        tls = self._certificate.open(settings.tls) if settings.server.listen_tls else None
        return {
            "content": [await self._listen(address, None) for address in settings.server.listen],
            "tls": [await self._listen(address, tls) for address in settings.server.listen_tls],
            "admin": await self._listen_admin(settings),
        }

    async def _listen(self, address: str, tls: ssl.SSLContext | None) -> str:
        loop = asyncio.get_running_loop()
        for sock in await _bound(*parse_listen(address)):
            if tls is None and self._rooms.crew.count:
                self._acceptors.append(Acceptor(sock, self._deal))
            else:
                handshake_s = _HANDSHAKE_S if tls is not None else None
                server = await loop.create_server(
                    self._rooms.listener, sock=sock, backlog=_BACKLOG, ssl=tls, ssl_handshake_timeout=handshake_s
                )
                self._servers.append(server)
        host, port = sock.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _deal(self, sock: socket.socket) -> None:
        """Give a new connection to one of the node's processes."""
        crew, listener = self._rooms.crew, self._rooms.listener
        if listener.full_with(crew.connections):
            listener.on_refused()
            sock.close()
        elif crew.deal(sock):
            sock.close()
        else:
            listener.adopt(sock)

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
            settle=rooms.crew.collect,
            add_actions=add_actions,
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=60.0)
        await self._admin.setup()
        host, port = parse_listen(settings.admin.listen)
        await web.TCPSite(self._admin, host, port).start()
        bound = self._admin.addresses[0]
        return f"{bound[0]}:{bound[1]}"

    def close_content(self) -> None:
        """Take no more clients."""
        for server in self._servers:
            server.close()
        for acceptor in self._acceptors:
            acceptor.close()

    async def close_admin(self) -> None:
        """Take no more administrators."""
        if self._admin is not None:
            await self._admin.cleanup()


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of ``host``. OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as exc:
                raise OSError(exc.errno, f"cannot listen on {host}:{port}: {exc.strerror}") from exc
            sock.listen(_BACKLOG)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets
