"""The content listener's request handler: admit, look up, decide, act, account.

Owns: the order of those steps for one request. Rules live in ``core``; fetching in ``fill``; sending in ``delivery``
and ``passing``. Whatever goes wrong ends here, as an answer or a cut connection, never as a traceback.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import cast

from aiohttp import web

from cacheserver.core.admission import check_method, parse_target
from cacheserver.core.allowlist import AllowList
from cacheserver.core.cache_control import request_cache_control
from cacheserver.core.cache_status import cache_status
from cacheserver.core.decision import Facts, Outcome, Step, decide
from cacheserver.core.errors import (
    BodyRefused,
    CacheserverError,
    Draining,
    GenerationChanged,
    HostNotAllowed,
    LoopDetected,
    MalformedRequest,
    OriginStatus,
    RequestError,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.core.fields import Fields
from cacheserver.core.freshness import Freshness, assess, current_age_s
from cacheserver.core.http_date import format_http_date
from cacheserver.core.via import passed_here, via_token
from cacheserver.fill.asking import Want
from cacheserver.fill.coordinator import Coordinator, speaks_for_all
from cacheserver.fill.opening import CODING, Answered, Relayed
from cacheserver.ports import Clock
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.channel import Channel
from cacheserver.web.connection import ClientConnection
from cacheserver.web.delivery import Delivery
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import NODE_NAME, Head, hit_lines, object_cache_status, object_lines, text_lines
from cacheserver.web.hot_table import HotEntry, Label, is_plain
from cacheserver.web.object_reply import asked_range, opening_demand, plan_object_reply
from cacheserver.web.options import ServerOptions
from cacheserver.web.passing import Passing
from cacheserver.web.rebuilt_phf import RebuiltManifests
from cacheserver.web.refusals import refusal_for
from cacheserver.web.request import SentResponse
from cacheserver.web.wire import ClientGone

_log = logging.getLogger(__name__)
_LOOKUPS = 4


class ContentHandler:
    """Serves GET and HEAD from store and origins."""

    def __init__(
        self,
        *,
        allowlist: Callable[[], AllowList],
        options: ServerOptions,
        coordinator: Coordinator,
        store: Store,
        delivery: Delivery,
        passing: Passing,
        rebuilt: RebuiltManifests,
        clock: Clock,
        node_id: str,
        first_byte_s: float,
        account: Callable[[Exchange], None],
    ) -> None:
        self.options = options
        """Replaced by a reload."""
        self._allowlist = allowlist
        self.draining = False
        self._coordinator = coordinator
        self._store = store
        self._delivery = delivery
        self._passing = passing
        self._rebuilt = rebuilt
        self._clock = clock
        self._node_id = node_id
        self._first_byte_s = first_byte_s
        self._via = via_token(node_id)
        self._account = account

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; always returns, unless the task itself is cancelled."""
        connection = cast(ClientConnection, request.protocol)
        assert connection.wire is not None
        channel = Channel(
            connection.wire,
            method=request.method,
            http_10=request.version < (1, 1),
            keep_alive=request.keep_alive and not self.draining,
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

    async def _guarded(self, request: web.BaseRequest, exchange: Exchange, channel: Channel) -> None:
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

    async def _answer_in_time(self, want: Want, exchange: Exchange, channel: Channel) -> None:
        """A client hears something within ``first_byte_s``, or it would not ask this node again for a while."""
        try:
            async with asyncio.timeout(self._first_byte_s) as patience:

                def begun() -> None:
                    patience.reschedule(None)
                    exchange.first_byte_s = self._clock.monotonic_s()

                channel.on_start = begun
                await self._answer(want, exchange, channel)
        except TimeoutError as exc:
            if channel.head_sent:
                raise
            raise UpstreamTimeout("no byte came in time", source=want.target.origin) from exc
        finally:
            channel.on_start = None

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

    # -- look up, decide ----------------------------------------------------------------------------------------

    async def _answer(self, want: Want, exchange: Exchange, channel: Channel) -> None:
        for _lookup in range(_LOOKUPS):
            obj = self._coordinator.peek(want) or await self._coordinator.find(want)
            freshness = self._freshness(want, obj)
            facts = Facts(
                method=exchange.method,
                service=want.target.service,
                freshness=freshness,
                passes=self._coordinator.passes(want),
                request=request_cache_control(want.fields),
            )
            try:
                if await self._act(decide(facts), want, obj, freshness, exchange, channel):
                    return
            except GenerationChanged:
                if channel.head_sent:
                    raise
        await self._pass(want, exchange, channel, detail="contended")

    def _freshness(self, want: Want, obj: StoredObject | None) -> Freshness | None:
        if obj is None:
            return None
        path = want.target.path_and_query.partition("?")[0]
        now_s = self._clock.wall_s()
        return assess(obj.representation, want.target.service, path, request_cache_control(want.fields), now_s)

    # -- act ----------------------------------------------------------------------------------------------------

    async def _act(
        self,
        step: Step,
        want: Want,
        obj: StoredObject | None,
        freshness: Freshness | None,
        exchange: Exchange,
        channel: Channel,
    ) -> bool:
        """Do one step; False when the object has to be looked up again."""
        if step is Step.ONLY_IF_CACHED:
            raise UpstreamTimeout("nothing usable is stored, and the client asked for nothing else")
        if step is Step.PASS:
            await self._pass(want, exchange, channel)
            return True
        if step is Step.OPEN:
            return await self._open(want, exchange, channel)
        assert obj is not None
        assert freshness is not None
        if step is Step.REVALIDATE:
            return await self._revalidate(want, obj, freshness, exchange, channel)
        if step is Step.SERVE_STALE:
            self._coordinator.revalidate_behind(obj, want)
        outcome = Outcome.STALE if step is Step.SERVE_STALE else Outcome.HIT
        await self._serve(want, obj, exchange, channel, outcome)
        return True

    async def _open(self, want: Want, exchange: Exchange, channel: Channel) -> bool:
        if self.draining:
            raise Draining("the node is going down")
        exchange.outcome = Outcome.MISS.value
        field = asked_range(want.fields, None, method=exchange.method)
        outcome, first = await self._coordinator.open(want, opening_demand(field))
        if isinstance(outcome, Answered) and not first and not speaks_for_all(outcome):
            await self._pass(want, exchange, channel)
        elif isinstance(outcome, Answered):
            await self._answered(want, outcome, exchange, channel, collapsed=not first)
        elif isinstance(outcome, Relayed):
            await self._relayed(want, outcome, first, exchange, channel)
        elif first:
            await self._serve(want, outcome.obj, exchange, channel, Outcome.MISS)
        else:
            obj = await self._coordinator.find(want)
            if obj is None:
                return False
            await self._serve(want, obj, exchange, channel, Outcome.MISS, collapsed=True)
        return True

    async def _revalidate(
        self, want: Want, obj: StoredObject, freshness: Freshness, exchange: Exchange, channel: Channel
    ) -> bool:
        exchange.outcome = Outcome.REVALIDATED.value
        try:
            outcome = await self._coordinator.revalidate(obj, want)
        except UpstreamError:
            if not freshness.stale_if_error:
                raise
            await self._serve(want, obj, exchange, channel, Outcome.STALE)
            return True
        if isinstance(outcome, Answered):
            await self._answered(want, outcome, exchange, channel, collapsed=False)
        elif isinstance(outcome, Relayed):
            await self._relayed(want, outcome, True, exchange, channel)
        else:
            word = Outcome.REVALIDATED if outcome.obj is obj else Outcome.MISS
            await self._serve(want, outcome.obj, exchange, channel, word)
        return True

    async def _serve(
        self,
        want: Want,
        obj: StoredObject,
        exchange: Exchange,
        channel: Channel,
        outcome: Outcome,
        *,
        collapsed: bool = False,
    ) -> None:
        if not obj.usable:
            raise GenerationChanged("the object was replaced")
        obj.hold()
        try:
            rep, now_s = obj.representation, self._clock.wall_s()
            boundary = secrets.token_hex(16)
            reply = plan_object_reply(rep, want.fields, method=exchange.method, now_s=now_s, boundary=boundary)
            spans = [(part.start, part.stop) for part in reply.parts]
            there = all(obj.pieces.stored_until(start, stop) == stop for start, stop in spans)
            if outcome is Outcome.HIT and not there:
                outcome = Outcome.PARTIAL
            exchange.outcome = outcome.value
            exchange.cache_status = self._cache_status(want, obj, outcome, collapsed=collapsed)
            lines = object_lines(
                rep, age_s=current_age_s(rep, now_s), via=self._via, cache_status=exchange.cache_status
            )
            reply = reply.with_lines(lines)
            for start, stop in spans:
                self._store.touch(obj, *obj.pieces.covering(start, stop))
            await self._delivery.send(channel, want, obj, reply)
            if outcome is Outcome.HIT and len(spans) == 1 and not channel.http_10:
                exchange.hot = self._hot_entry(want, obj, exchange)
        finally:
            obj.release()

    def _hot_entry(self, want: Want, obj: StoredObject, exchange: Exchange) -> HotEntry | None:
        """What the fast lane needs to answer the same head again; None where the answer could differ."""
        rep = obj.representation
        freshness = self._freshness(want, obj)
        if freshness is None or not freshness.fresh or rep.vary or not is_plain(want.fields):
            return None

        return HotEntry(
            obj=obj,
            representation=rep,
            length_bytes=rep.length_bytes,
            label=Label(
                service=want.target.service.name,
                form=want.target.form.value,
                host=want.target.host,
                path=want.target.path_and_query,
                user_agent=exchange.user_agent,
            ),
            fresh_until_s=self._clock.monotonic_s() + freshness.lifetime_s - freshness.age_s,
            lines=hit_lines(rep, via=self._via, lifetime_s=freshness.lifetime_s),
        )

    def _cache_status(self, want: Want, obj: StoredObject, outcome: Outcome, *, collapsed: bool) -> str:
        freshness = self._freshness(want, obj)
        assert freshness is not None
        return object_cache_status(freshness, obj.representation.trust, outcome, collapsed=collapsed)

    async def _answered(
        self, want: Want, answered: Answered, exchange: Exchange, channel: Channel, *, collapsed: bool
    ) -> None:
        if await self._rebuilt.serve(want, exchange, channel, OriginStatus(answered.status)):
            return
        exchange.outcome = Outcome.PASS.value
        exchange.cache_status = cache_status(
            NODE_NAME, hit=False, fwd="uri-miss", fwd_status=answered.status, collapsed=collapsed or None
        )
        await self._passing.answered(channel, want, answered, options=self.options, cache_status=exchange.cache_status)

    async def _relayed(self, want: Want, relayed: Relayed, first: bool, exchange: Exchange, channel: Channel) -> None:
        plain = not any(name in want.fields for name in ("Range", "If-None-Match", "If-Modified-Since", "If-Match"))
        complete = (relayed.answer.status != 206 or relayed.covers_all) and relayed.reason != CODING
        if not first or not plain or not complete:
            if first:
                relayed.answer.close()
            await self._pass(want, exchange, channel, detail=relayed.reason)
            return
        exchange.outcome = Outcome.PASS.value
        exchange.cache_status = cache_status(
            NODE_NAME, hit=False, fwd="uri-miss", fwd_status=relayed.answer.status, stored=False, detail=relayed.reason
        )
        await self._passing.relay(
            channel,
            want,
            relayed.answer,
            method=exchange.method,
            options=self.options,
            cache_status=exchange.cache_status,
            prefix=relayed.prefix,
        )

    async def _pass(self, want: Want, exchange: Exchange, channel: Channel, *, detail: str | None = None) -> None:
        exchange.outcome = Outcome.PASS.value
        exchange.cache_status = cache_status(NODE_NAME, hit=False, fwd="bypass", stored=False, detail=detail)
        await self._passing.through(
            channel,
            want,
            method=exchange.method,
            options=self.options,
            cache_status=exchange.cache_status,
        )

    async def _refuse(self, error: CacheserverError, exchange: Exchange, channel: Channel) -> None:
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
