"""The node's sockets: content, content over TLS, admin.

Owns: opening and closing them, or taking those that were opened for the node. What is answered on them is ``web``'s.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from cacheserver.core.errors import ConfigError
from cacheserver.core.units import parse_listen
from cacheserver.logs.events import event, get_logger
from cacheserver.node.status import NodeStatus
from cacheserver.node.wiring import Components
from cacheserver.settings.schema import Settings
from cacheserver.system.socket_activation import Inherited
from cacheserver.system.zones import own_address_text, socket_address
from cacheserver.tls.current import CurrentCertificate
from cacheserver.web.accepting import SecureServer
from cacheserver.web.admin.actions import AdminActions
from cacheserver.web.admin.app import admin_app
from cacheserver.web.admin.connections import AdminConnections
from cacheserver.web.admin.pins import AdminPins
from cacheserver.web.admin.views import Views
from cacheserver.web.aiohttp_adapter import tolerate_targets
from cacheserver.web.connection_limits import ADMIN, LimitReport
from cacheserver.web.sending.tcp import serve_on

_log = get_logger(__name__)
_BACKLOG = 1024
_HANDSHAKE_S = 10.0
_ADMIN_ENDS_S = 1.0
"""How long the node waits at its end for requests of administrators, twice: before and after it cancels them."""
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Listeners:
    """Every listening socket of one node. OSError when an address is taken, ConfigError for bad TLS files.

    A kind of which ``system.socket_activation`` has sockets is served on those, and not on the addresses of the
    settings.
    """

    def __init__(
        self, parts: Components, status: NodeStatus, certificate: CurrentCertificate, inherited: Inherited | None = None
    ) -> None:
        self._parts = parts
        self._status = status
        self._inherited = inherited or Inherited()
        self._servers: list[asyncio.Server | SecureServer] = []
        self._admin_servers: list[asyncio.Server] = []
        self._certificate = certificate
        self._admin: web.AppRunner | None = None

    async def open(self, settings: Settings) -> dict[str, Any]:
        """Listen on everything; the addresses by kind, for the log."""
        server, inherited = settings.server, self._inherited
        tls = self._certificate.open(settings.tls) if server.listen_tls or inherited.tls else None
        return {
            "content": await self._listen_all(inherited.content or await _bound(server.listen), None),
            "tls": await self._listen_all(inherited.tls or await _bound(server.listen_tls), tls),
            "admin": await self._listen_admin(settings),
        }

    async def _listen_all(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> list[str]:
        for sock in sockets:
            serve_on(sock)
            listener = self._parts.web.listener
            if tls is None:
                loop = asyncio.get_running_loop()
                self._servers.append(await loop.create_server(listener, sock=sock, backlog=_BACKLOG))
            else:
                self._servers.append(
                    SecureServer(
                        sock, listener, shares=listener.shares, context=tls, handshake_s=_HANDSHAKE_S, backlog=_BACKLOG
                    )
                )
        return [own_address_text(sock) for sock in sockets]

    async def _listen_admin(self, settings: Settings) -> str:
        sockets = self._inherited.admin
        if not settings.admin.listen and not sockets:
            return ""
        if self._inherited.reaches_admin_from_outside() and not settings.admin.token:
            raise ConfigError("the admin socket is not on loopback: a token is needed", key="admin.token")
        parts = self._parts
        actions = AdminActions(
            store=parts.store,
            scrubber=parts.scrubber,
            sources=parts.sources.health,
            admit=parts.admitted.target,
            clock=parts.clock,
            is_pinned=parts.pinning.is_pinned,
        )
        app = admin_app(
            settings.admin,
            Views(
                book=parts.web.accounting.book,
                render=parts.meter.render,
                not_ready=self._status.not_ready,
                node_status=self._status.status,
                node_overview=self._status.overview,
            ),
            actions,
            AdminPins(pinning=parts.pinning, admit=parts.admitted.target),
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_ADMIN_ENDS_S)
        await self._admin.setup()
        assert self._admin.server is not None
        tolerate_targets(self._admin.server)
        limits = LimitReport(parts.meter, parts.clock, ADMIN)
        connections = AdminConnections(self._admin.server, on_limit=limits.limited)
        for sock in sockets or await _bound((settings.admin.listen,)):
            server = await asyncio.get_running_loop().create_server(connections, sock=sock, backlog=_BACKLOG)
            self._admin_servers.append(server)
        return own_address_text(self._admin_servers[0].sockets[0])

    def close_content(self) -> None:
        """Take no more clients."""
        for server in self._servers:
            server.close()

    async def close_admin(self) -> None:
        """Take no more administrators."""
        for server in self._admin_servers:
            server.close()
        if self._admin is not None:
            await self._admin.cleanup()


async def _bound(addresses: Sequence[str]) -> list[socket.socket]:
    """Listening sockets for every ``ADDR:PORT``, several where a name has several addresses. OSError.

    A kernel without IPv6 does not listen on ``[::]``; that is no error where there is another address.
    """
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for text in addresses:
            host, port = parse_listen(text)
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _name, address in dict.fromkeys(found):
                try:
                    address = socket_address(host, port) or address  # the loop's own resolver loses zones
                    sockets.append(_bound_to(family, kind, protocol, address, text))
                except OSError as exc:
                    if family != socket.AF_INET6 or address[0] != "::" or exc.errno not in _NO_IPV6:
                        raise
                    lacking = exc
                    event(_log, "address_skipped", severity=logging.WARNING, address=text, reason=exc.strerror)
        if lacking is not None and not sockets:
            raise lacking
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound_to(family: int, kind: int, protocol: int, address: tuple[Any, ...], text: str) -> socket.socket:
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        return sock
    except OSError as exc:
        if sock is not None:
            sock.close()
        raise OSError(exc.errno, f"cannot listen on {text}: {os.strerror(exc.errno or 0)}") from exc
