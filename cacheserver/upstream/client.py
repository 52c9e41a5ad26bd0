"""Asking a source over aiohttp: one session, own deadlines, every redirect hop admitted, every fault translated.

Owns: connections to sources. Must not interpret a body or a cache rule. aiohttp's defaults that do harm here are off:
redirects, decompression, proxies from the environment, its total timeout.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

import aiohttp
from yarl import URL

from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import (
    BadAnswer,
    CacheserverError,
    ConfigError,
    ConnectFailed,
    OriginStatus,
    TooManyRedirects,
    TruncatedBody,
    UntrustedSource,
    UpstreamTimeout,
)
from cacheserver.core.http.fields import Fields
from cacheserver.ports import Clock, Meter
from cacheserver.upstream.aiohttp_parts import disable_retries, received_bytes
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.upstream.resolver import VettedResolver

Redirect = Callable[[UpstreamRequest, str], UpstreamRequest | None]
"""The request for a redirect's target, or None when the node may not go there."""

_REDIRECTS = (301, 302, 303, 307, 308)
_READ_BUFFER_BYTES = 1 << 19
_RATE_WINDOW_S = 10.0
_CROSSING = frozenset(
    {"range", "if-range", "if-none-match", "if-modified-since", "accept-encoding", "accept", "via", "user-agent"}
)
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Answer:
    """One open answer; see ``ports.UpstreamAnswer``."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        source: str,
        asked: str,
        source_class: str,
        times_s: tuple[float, float],
        options: UpstreamOptions,
    ) -> None:
        self.status = response.status
        self.fields = Fields.from_raw(response.raw_headers)
        self.source = source
        self.asked = asked
        self.source_class = source_class
        self.request_time_s, self.response_time_s = times_s
        self._response = response
        self._options = options
        self._window_start_s = 0.0
        self._window_bytes = 0

    async def read(self) -> bytes:
        """The next body bytes; see ``ports.UpstreamAnswer.read``."""
        try:
            async with asyncio.timeout(self._options.stall_timeout_s):
                data = await self._response.content.readany()
        except TimeoutError as exc:
            raise UpstreamTimeout("source went silent inside the body", source=self.source) from exc
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:  # RuntimeError: its reader was closed
            data = received_bytes(self._response.content)
            if not data:
                raise TruncatedBody("source broke off inside the body", source=self.source) from exc
        self._check_rate(len(data))
        return data

    def _check_rate(self, got_bytes: int) -> None:
        now = asyncio.get_running_loop().time()
        if not self._window_start_s:
            self._window_start_s = now
        self._window_bytes += got_bytes
        passed_s = now - self._window_start_s
        if passed_s < _RATE_WINDOW_S:
            return
        if got_bytes and self._window_bytes < self._options.min_rate_bps * passed_s:
            raise UpstreamTimeout("source sends too slowly", source=self.source)
        self._window_start_s, self._window_bytes = now, 0

    def close(self) -> None:
        """Give the connection back when the body was read, else cut it."""
        self._response.close()


class UpstreamClient:
    """Opens answers; see ``ports.Upstream``."""

    def __init__(
        self,
        *,
        options: UpstreamOptions,
        resolver: VettedResolver,
        redirect: Redirect,
        clock: Clock,
        meter: Meter,
        user_agent: str,
    ) -> None:
        self._options = options
        self._resolver = resolver
        self._redirect = redirect
        self._clock = clock
        self._meter = meter
        self._user_agent = user_agent
        self._tls = tls_context(options.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def open(self, request: UpstreamRequest) -> Answer:
        """Send ``request`` and return once its head is there; see ``ports.Upstream.open``."""
        asked = request.source
        for _hop in range(self._options.redirects + 1):
            try:
                answer = await self._ask(request, asked)
            except CacheserverError as exc:
                self._count(request, exc.code)
                raise
            if answer.status not in _REDIRECTS:
                self._count(request, _result(answer.status))
                return answer
            location = answer.fields.first("Location")
            target = self._redirect(request, location) if location else None
            if target is None:
                self._count(request, OriginStatus.code)
                return answer
            answer.close()
            request = target
        self._count(request, OriginStatus.code)
        raise TooManyRedirects("source redirects too often", source=request.source)

    def _count(self, request: UpstreamRequest, result: str) -> None:
        self._meter.upstream_request(request.service.name, request.source_class, result)

    async def _ask(self, request: UpstreamRequest, asked: str) -> Answer:
        self._resolver.vet_literal(request.host, request.port)
        headers = [("User-Agent", self._user_agent)] if "User-Agent" not in request.fields else []
        headers.extend(request.fields)
        sent_s = self._clock.wall_s()
        budget_s = self._options.connect_timeout_s + self._options.head_timeout_s
        try:
            async with asyncio.timeout(budget_s):
                response = await self._open_session().request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=headers,
                    skip_auto_headers=_SKIPPED,
                    allow_redirects=False,
                )
        except TimeoutError as exc:
            raise UpstreamTimeout("source did not answer in time", source=request.source) from exc
        except aiohttp.ClientConnectorCertificateError as exc:
            raise UntrustedSource(_certificate_fault(exc), source=request.source) from exc
        except (aiohttp.ClientResponseError, aiohttp.http_exceptions.HttpProcessingError) as exc:
            raise BadAnswer("source's answer is not HTTP", source=request.source) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise ConnectFailed(f"no connection to the source ({type(exc).__name__})", source=request.source) from exc
        return Answer(
            response,
            source=request.source,
            asked=asked,
            source_class=request.source_class,
            times_s=(sent_s, self._clock.wall_s()),
            options=self._options,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                limit=0,
                limit_per_host=self._options.connections_per_host,
                keepalive_timeout=self._options.idle_s,
                ssl=self._tls,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_timeout_s),
                read_bufsize=_READ_BUFFER_BYTES,
                max_line_size=16_384,
                max_field_size=16_384,
            )
            disable_retries(self._session)  # the fill counts tries, and pauses between them
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def redirected(request: UpstreamRequest, *, scheme: str, host: str, port: int, path_and_query: str) -> UpstreamRequest:
    """The same request at another place; to another host only fields go along that shape the answer."""
    fields = request.fields
    if (host, port) != (request.host, request.port):
        fields = Fields(line for line in fields if line[0].lower() in _CROSSING)
    return replace(request, scheme=scheme, host=host, port=port, path_and_query=path_and_query, fields=fields)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """What checks chain, time and name of every https source. ConfigError where ``ca_file`` holds no certificates."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as exc:
        raise ConfigError("cannot be used as a PEM bundle", where=ascii(ca_file)[1:-1], key="upstream.ca_file") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _certificate_fault(exc: aiohttp.ClientConnectorCertificateError) -> str:
    """Which check failed, in OpenSSL's words."""
    reason = getattr(exc.certificate_error, "verify_message", "") or "it cannot be verified"
    return f"source's certificate is refused: {reason.rstrip('.')}"


def _result(status: int) -> str:
    if status in (200, 206):
        return "ok"
    return "not_modified" if status == 304 else OriginStatus.code
