"""The content listener's request handler: admit, answer in time, account.

Owns: what frames every answer. ``web.answer.answering`` finds and gives it. Whatever goes wrong ends here, as an answer
or a cut connection, never as a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from cacheserver.core.cache.decision import Outcome
from cacheserver.core.errors import (
    BodyRefused,
    CacheserverError,
    HostNotAllowed,
    LoopDetected,
    OriginStatus,
    RequestError,
    UpstreamError,
    UpstreamTimeout,
    VersionUnknown,
)
from cacheserver.core.http.cache_status import cache_status
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.http.via import passed_here
from cacheserver.core.request.admission import check_method, parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.client_shares import client_of
from cacheserver.fill.asking import Want
from cacheserver.ports import Clock
from cacheserver.web.aiohttp_adapter import SentResponse
from cacheserver.web.answer.answering import Answerer
from cacheserver.web.answer.health import asks_for_health, health
from cacheserver.web.answer.rebuilt_manifest import RebuiltManifests
from cacheserver.web.answer.refusals import refusal_for
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import NODE_NAME, Head, text_lines
from cacheserver.web.sending.response import ResponseWriter
from cacheserver.web.sending.wire import ClientGone

_log = logging.getLogger(__name__)
_WHAT_IT_IS = (
    "This is cacheserver, a cache for software updates (Delivery Optimization). It is no website. Its administrators "
    "find its status page on the admin listener."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentHandler:
    """Serves GET and HEAD from store and origins."""

    allowlist: Callable[[], AllowList]
    answerer: Answerer
    rebuilt: RebuiltManifests
    clock: Clock
    node_id: str
    first_byte_s: float
    begun: Callable[[Exchange], None]
    account: Callable[[Exchange], None]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; always returns, unless the task itself is cancelled."""
        connection = cast(ClientConnection, request.protocol)
        assert connection.wire is not None
        channel = ResponseWriter(
            connection.wire,
            method=request.method,
            http_10=request.version < (1, 1),
            keep_alive=request.keep_alive and not self.answerer.draining,
        )
        exchange = Exchange.of(request, channel, connection.client, started_s=self.clock.monotonic_s())
        self.begun(exchange)
        try:
            await self._guarded(request, exchange)
            if exchange.hot is not None and channel.keep_alive and connection.lane is not None:
                connection.lane.learn(exchange.hot)
        except ClientGone:
            exchange.cut = "client"
            channel.cut()
        except asyncio.CancelledError:
            exchange.cut = "client"
            raise
        except Exception:
            _log.exception("request failed unexpectedly")
            exchange.cut = "internal"
            channel.cut()
        finally:
            self.account(exchange)
        return SentResponse(status=channel.status or 500, keep_alive=channel.keep_alive and not connection.spent)

    async def _guarded(self, request: web.BaseRequest, exchange: Exchange) -> None:
        channel = exchange.channel
        try:
            want = self._admit(request, exchange)
            try:
                await self._answer_in_time(want, exchange)
            except UpstreamError as exc:
                if not await self.rebuilt.serve(want, exchange, exc):
                    raise
        except CacheserverError as exc:
            exchange.error = exc
            if channel.head_sent:
                exchange.cut = exc.code
                channel.cut()
            elif asks_for_health(request.raw_path, exc):
                await self._tell_health(request.raw_path, exchange)
            else:
                await self._refuse(exc, exchange)

    async def _answer_in_time(self, want: Want, exchange: Exchange) -> None:
        """A client hears something within ``first_byte_s``, or it would not ask this node again for a while."""
        channel = exchange.channel
        try:
            async with channel.starting_within(self.first_byte_s, self.clock):
                await self.answerer.answer(want, exchange)
        except TimeoutError as exc:
            if channel.head_sent:
                raise
            raise UpstreamTimeout("no byte came in time", source=want.target.origin) from exc

    # -- admit --------------------------------------------------------------------------------------------------

    def _admit(self, request: web.BaseRequest, exchange: Exchange) -> Want:
        fields = Fields.from_raw(request.raw_headers)
        check_method(request.method)
        if not request.version >= (1, 0) or request.version >= (2, 0):
            raise VersionUnknown
        if (fields.value("Content-Length") or "").strip("0") or "Transfer-Encoding" in fields:
            raise BodyRefused("request bodies are not accepted")
        target = parse_target(
            request.raw_path,
            fields.lines("Host"),
            tls=request.secure,
            allowlist=self.allowlist(),
            http_10=request.version < (1, 1),
        )
        exchange.target = target
        if passed_here(fields, self.node_id):
            raise LoopDetected("this request has passed here before; DNS may point the origin at this node")
        return Want(target, fields, client=client_of(exchange.client.address))

    async def _tell_health(self, raw_target: str, exchange: Exchange) -> None:
        exchange.error, exchange.aside = None, True
        status, text = health(raw_target, self.answerer.not_ready())
        await self._say(exchange, status, text)

    async def _say(
        self, exchange: Exchange, status: int, text: str, *extra: tuple[str, str], close: bool = False
    ) -> None:
        channel, body = exchange.channel, text.encode("ascii", "backslashreplace")
        lines = text_lines(format_http_date(self.clock.wall_s()), *extra)
        await channel.start(Head(status, lines, len(body)), close=close)
        await channel.write(body)
        await channel.finish()

    async def _refuse(self, error: CacheserverError, exchange: Exchange) -> None:
        refusal = refusal_for(error)
        requested = isinstance(error, RequestError)
        exchange.outcome = Outcome.REFUSED.value if requested else Outcome.ERROR.value
        text = refusal.text
        if isinstance(error, HostNotAllowed) and exchange.wants_page:
            text = f"{_WHAT_IT_IS}\n\n{text}"
        extra = refusal.extra
        if isinstance(error, OriginStatus):  # a node that asked this one tells the origin's word from this node's
            word = cache_status(NODE_NAME, hit=False, fwd="miss", fwd_status=error.status)
            extra = (*extra, ("Cache-Status", word))
        await self._say(exchange, refusal.status, text, *extra, close=refusal.close)
