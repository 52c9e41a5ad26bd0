"""The content listener's request handler: admit, answer in time, account.

Owns: what frames every answer. ``web.answer.answering`` finds and gives it. Whatever goes wrong ends here, as an answer
or a cut connection, never as a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from aiohttp import web

from cacheserver.core.cache.decision import Outcome
from cacheserver.core.errors import (
    BodyRefused,
    CacheserverError,
    HostNotAllowed,
    LoopDetected,
    MalformedRequest,
    RequestError,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.http.via import passed_here
from cacheserver.core.request.admission import check_method, parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.fill.asking import Want
from cacheserver.ports import Clock
from cacheserver.web.aiohttp_adapter import SentResponse
from cacheserver.web.answer.answering import Answerer
from cacheserver.web.answer.rebuilt_manifest import RebuiltManifests
from cacheserver.web.answer.refusals import refusal_for
from cacheserver.web.connection import ClientConnection
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import Head, text_lines
from cacheserver.web.sending.response import ResponseWriter
from cacheserver.web.sending.wire import ClientGone

_log = logging.getLogger(__name__)


class ContentHandler:
    """Serves GET and HEAD from store and origins."""

    def __init__(
        self,
        *,
        allowlist: Callable[[], AllowList],
        answerer: Answerer,
        rebuilt: RebuiltManifests,
        clock: Clock,
        node_id: str,
        first_byte_s: float,
        account: Callable[[Exchange], None],
    ) -> None:
        self._allowlist = allowlist
        self._answerer = answerer
        self._rebuilt = rebuilt
        self._clock = clock
        self._node_id = node_id
        self._first_byte_s = first_byte_s
        self._account = account

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; always returns, unless the task itself is cancelled."""
        connection = cast(ClientConnection, request.protocol)
        assert connection.wire is not None
        channel = ResponseWriter(
            connection.wire,
            method=request.method,
            http_10=request.version < (1, 1),
            keep_alive=request.keep_alive and not self._answerer.draining,
        )
        exchange = Exchange.of(request, connection.client, started_s=self._clock.monotonic_s())
        try:
            await self._guarded(request, exchange, channel)
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
            exchange.status, exchange.body_bytes = channel.status, channel.body_bytes
            self._account(exchange)
        return SentResponse(status=channel.status or 500, keep_alive=channel.keep_alive and not connection.spent)

    async def _guarded(self, request: web.BaseRequest, exchange: Exchange, channel: ResponseWriter) -> None:
        try:
            want = self._admit(request, exchange)
            try:
                await self._answer_in_time(want, exchange, channel)
            except UpstreamError as exc:
                if not await self._rebuilt.serve(want, exchange, channel, exc):
                    raise
        except CacheserverError as exc:
            if channel.head_sent:
                exchange.cut = exc.code
                channel.cut()
            else:
                await self._refuse(exc, exchange, channel)

    async def _answer_in_time(self, want: Want, exchange: Exchange, channel: ResponseWriter) -> None:
        """A client hears something within ``first_byte_s``, or it would not ask this node again for a while."""
        try:
            async with channel.starting_within(self._first_byte_s, self._clock):
                await self._answerer.answer(want, exchange, channel)
        except TimeoutError as exc:
            if channel.head_sent:
                raise
            raise UpstreamTimeout("no byte came in time", source=want.target.origin) from exc
        finally:
            exchange.first_byte_s = channel.started_s

    # -- admit --------------------------------------------------------------------------------------------------

    def _admit(self, request: web.BaseRequest, exchange: Exchange) -> Want:
        fields = Fields.from_raw(request.raw_headers)
        check_method(request.method)
        if not request.version >= (1, 0) or request.version >= (2, 0):
            raise MalformedRequest("only HTTP/1.0 and HTTP/1.1 are spoken here")
        if (fields.value("Content-Length") or "").strip("0") or "Transfer-Encoding" in fields:
            raise BodyRefused("request bodies are not accepted")
        target = parse_target(
            request.raw_path,
            fields.lines("Host"),
            tls=request.secure,
            allowlist=self._allowlist(),
            http_10=request.version < (1, 1),
        )
        exchange.target = target
        if passed_here(fields, self._node_id):
            raise LoopDetected("this request has passed here before; DNS may point the origin at this node")
        return Want(target, fields)

    async def _refuse(self, error: CacheserverError, exchange: Exchange, channel: ResponseWriter) -> None:
        refusal = refusal_for(error)
        requested = isinstance(error, RequestError)
        exchange.outcome = Outcome.REFUSED.value if requested else Outcome.ERROR.value
        exchange.refused = error.code
        exchange.refused_host = error.host if isinstance(error, HostNotAllowed) else ""
        body = refusal.text.encode("ascii", "backslashreplace")
        lines = text_lines(format_http_date(self._clock.wall_s()), *refusal.extra)
        await channel.start(Head(refusal.status, lines, len(body)), close=refusal.close)
        await channel.write(body)
        await channel.finish()
