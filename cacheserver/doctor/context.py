"""What every check may look at: settings, options, the dialer, and what several checks ask for once.

Owns: HTTP requests and the answers that are shared. Holds no judgement.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.request.service import Service
from cacheserver.core.units import address_text, parse_listen, reachable
from cacheserver.doctor.dialer import Dialer, reason_of
from cacheserver.doctor.processes import Listening, Process, listening
from cacheserver.outgoing.faults import certificate_fault
from cacheserver.outgoing.session import open_session
from cacheserver.settings.schema import Settings

_Value = TypeVar("_Value")
_REQUEST_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the command line asks for."""

    peers: tuple[str, ...] = ()
    """HOST or HOST:PORT of Delivery Optimization clients."""
    nodes: tuple[str, ...] = ()
    """HOST or HOST:PORT to ask for the test URLs instead of the node's own listeners."""
    names: tuple[str, ...] = ()
    """Names by which clients ask over https."""
    ca_file: str = ""
    """What clients trust; empty: the system's store."""
    user: str = ""
    """The node's user; empty: the running node's, or the present one."""
    services: tuple[str, ...] = ()
    """Services whose origins are looked at; empty: all."""
    endpoints: tuple[str, ...] = ()
    """Further HTTPS hosts that must answer."""
    range_urls: tuple[str, ...] = ()
    """Further URLs whose origins must serve byte ranges."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, or why there is none."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    """Lower-case names; the last line of each."""
    body: bytes = b""
    length_bytes: int = 0
    """Body bytes that came, also those beyond what ``body`` keeps."""
    error: str = ""
    sent_s: float = 0.0
    """Unix time at which the request went out."""
    took_s: float = 0.0


class Context:
    """One run of the doctor; ``async with`` ends what it has under way."""

    def __init__(self, settings: Settings, options: DoctorOptions, wall_s: Callable[[], float]) -> None:
        self.settings = settings
        self.options = options
        self.wall_s = wall_s
        self.dialer = Dialer(settings.upstream.connect_to)
        self._making: SingleFlight[str, None] = SingleFlight("doctor")
        self._made: dict[str, Any] = {}

    async def __aenter__(self) -> Context:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self._making.stop()
        await self.dialer.close()

    async def once(self, key: str, make: Callable[[], Awaitable[_Value]]) -> _Value:
        """What ``make`` gives, made for the first caller and kept; the deadline of one ends it for no other."""

        async def work() -> None:
            self._made[key] = await make()

        if key not in self._made:
            await self._making.run(key, work)
        value: _Value = self._made[key]
        return value

    async def get(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        keep_bytes: int = 4096,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = _REQUEST_S,
    ) -> Reply:
        """One GET without redirects, its body read to the end (at most 64 MiB); never raises on trouble.

        Each has a connection of its own, which is closed at the end.
        """
        loop = asyncio.get_running_loop()
        sent_s, began_s = self.wall_s(), loop.time()
        try:
            async with (
                asyncio.timeout(timeout_s),
                open_session(resolver=self.dialer, tls=tls) as session,
                session.get(
                    url, headers={"User-Agent": "cacheserver-doctor", **(headers or {})}, allow_redirects=False
                ) as response,
            ):
                first_s = loop.time()
                kept, length_bytes = bytearray(), 0
                async for chunk in response.content.iter_any():
                    length_bytes += len(chunk)
                    kept += chunk[: max(0, keep_bytes - len(kept))]
                    if length_bytes > 64 << 20:
                        break
                fields = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, fields, bytes(kept), length_bytes, "", sent_s, first_s - began_s)
        except TimeoutError:
            return Reply(error=f"no complete answer within {timeout_s:g} s", sent_s=sent_s)
        except aiohttp.ClientConnectorCertificateError as exc:
            return Reply(error=f"certificate refused: {certificate_fault(exc)}", sent_s=sent_s)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return Reply(error=reason_of(exc), sent_s=sent_s)

    # -- what several checks need ---------------------------------------------------------------------------------

    def content_addresses(self, *, tls: bool) -> tuple[tuple[str, int], ...]:
        """Where the content listeners can be reached from here."""
        server = self.settings.server
        return tuple(reachable(text) for text in (server.listen_tls if tls else server.listen))

    async def listeners(self) -> list[Listening]:
        """Sockets that listen on this node's ports."""
        server, admin = self.settings.server, self.settings.admin
        texts = [*server.listen, *server.listen_tls, *([admin.listen] if admin.listen else [])]
        ports = {parse_listen(text)[1] for text in texts}
        return await self.once("listeners", lambda: in_thread(listening, ports))

    async def node_process(self) -> Process | None:
        """The running node: who holds its ports; None where no node does, or where it may not be seen."""
        owners = (owner for listener in await self.listeners() for owner in listener.owners if owner.is_node)
        return next(owners, None)

    async def admin(self, path: str) -> Reply:
        """An answer of the admin listener."""
        options = self.settings.admin
        headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        url = f"http://{address_text(*reachable(options.listen))}{path}"
        return await self.once(f"admin {path}", lambda: self.get(url, headers=headers, keep_bytes=8 << 20))

    def services(self) -> list[Service]:
        """The services to look at."""
        wanted = self.options.services
        return [service for service in self.settings.all_services() if not wanted or service.name in wanted]
