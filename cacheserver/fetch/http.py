"""Asking one URL over aiohttp: heads checked, redirects followed, faults translated.

Owns: connections. Must not decide what to ask or what a fault costs; that is ``workflow`` and ``simple``. Addresses are
not vetted: the tool goes where its user sends it, on whatever machine it runs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from cacheserver.core.errors import BadAnswer, ConnectFailed, OriginStatus, TruncatedBody, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.fetch.sources import parse_url, redirected

CONNECT_TIMEOUT_S = 5.0
STALL_TIMEOUT_S = 20.0
MAX_REDIRECTS = 5
_READ_BUFFER_BYTES = 1 << 19
_REDIRECTS = (301, 302, 303, 307, 308)


class _Resolver(AbstractResolver):
    """DNS, but for the hosts whose address the user names."""

    def __init__(self, connect_to: Mapping[str, tuple[str, int]]) -> None:
        self._connect_to = connect_to
        self._dns = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a host."""
        named = self._connect_to.get(f"{host}:{port}") or self._connect_to.get(host)
        if named is None:
            return await self._dns.resolve(host, port, family)
        kind = socket.AF_INET6 if ":" in named[0] else socket.AF_INET
        return [
            ResolveResult(
                hostname=host,
                host=named[0],
                port=named[1],
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=int(socket.AI_NUMERICHOST),
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Answer:
    """One open answer: status, fields, and a body that ``read`` gives in chunks, empty at the end."""

    def __init__(self, response: aiohttp.ClientResponse, source: str) -> None:
        self.status = response.status
        self.fields = Fields.from_raw(response.raw_headers)
        self.source = source
        self._response = response

    async def read(self) -> bytes:
        """The next body bytes. TruncatedBody, UpstreamTimeout."""
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                return await self._response.content.readany()
        except TimeoutError as exc:
            raise UpstreamTimeout("went silent inside the body", source=self.source) from exc
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:  # a closed reader raises plain RuntimeError
            raise TruncatedBody("broke off inside the body", source=self.source) from exc

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole body; BadAnswer when it is longer than ``limit_bytes``."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limit_bytes:
                raise BadAnswer("the body is longer than it may be", source=self.source)
        return bytes(body)


class Client:
    """``async with Client(…) as client``: one pool of connections."""

    def __init__(self, *, connect_to: Mapping[str, tuple[str, int]], connections: int, user_agent: str) -> None:
        self._connect_to = connect_to
        self._connections = connections
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._connect_to), limit=0, limit_per_host=self._connections, ssl=context
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._session is not None
        await self._session.close()

    @asynccontextmanager
    async def get(self, url: str, *, source: str, fields: Mapping[str, str] | None = None) -> AsyncIterator[Answer]:
        """GET ``url``, following at most five redirects; ``source`` names it in errors. Raises UpstreamError."""
        place = parse_url(url)
        for _hop in range(MAX_REDIRECTS + 1):
            response = await self._ask(place.text, source, fields or {})
            try:
                if response.status not in _REDIRECTS:
                    yield Answer(response, source)
                    return
                target = redirected(place, response.headers.get("Location", ""))
            finally:
                response.close()
            if target is None:
                raise OriginStatus(response.status, source=source, message="redirects to where this may not go")
            place = target
        raise OriginStatus(310, source=source, message=f"more than {MAX_REDIRECTS} redirects")

    async def _ask(self, url: str, source: str, fields: Mapping[str, str]) -> aiohttp.ClientResponse:
        assert self._session is not None
        headers: dict[str, Any] = {"User-Agent": self._user_agent, **fields}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + STALL_TIMEOUT_S):
                return await self._session.get(
                    URL(url, encoded=True),
                    headers=headers,
                    skip_auto_headers=("Accept", "Accept-Encoding"),
                    allow_redirects=False,
                )
        except TimeoutError as exc:
            raise UpstreamTimeout("did not answer in time", source=source) from exc
        except aiohttp.ClientConnectorCertificateError as exc:
            raise ConnectFailed("its certificate is not trusted", source=source) from exc
        except (aiohttp.ClientResponseError, aiohttp.http_exceptions.HttpProcessingError) as exc:
            raise BadAnswer("its answer is not HTTP", source=source) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise ConnectFailed(f"no connection ({type(exc).__name__})", source=source) from exc
