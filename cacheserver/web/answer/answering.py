"""Answers one admitted request: look up, decide, act.

Owns: the order of those steps, and another look-up when an object changed in between. Rules live in ``core``, fetching
in ``fill``, sending in ``delivery`` and ``passing``. Must not know what admission refuses.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from cacheserver.core.cache.decision import Facts, Outcome, Step, decide
from cacheserver.core.cache.freshness import Freshness, assess, current_age_s
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import Draining, GenerationChanged, OriginStatus, UpstreamError, UpstreamTimeout
from cacheserver.core.http.cache_control import request_cache_control
from cacheserver.core.http.cache_status import cache_status
from cacheserver.fill.asking import Want
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.lookup import Lookup
from cacheserver.fill.outcome import CODING, Relayed, Stored
from cacheserver.fill.refreshing import part_with
from cacheserver.fill.revalidation import Revalidation
from cacheserver.ports import Clock
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.delivery import Delivery
from cacheserver.web.answer.object_reply import asked_range, opening_demand, plan_object_reply
from cacheserver.web.answer.pass_plan import CONDITIONS
from cacheserver.web.answer.passing import Passing
from cacheserver.web.answer.rebuilt_manifest import RebuiltManifests
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import NODE_NAME, hit_lines, object_cache_status, object_lines, with_age
from cacheserver.web.lane.hot_table import HotEntry, is_plain

_LOOKUPS = 4
_STALE_AFTER_S = 5.0
"""How long a client waits for a revalidation where it may have what is stored instead."""


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers from the store and from origins."""

    lookup: Lookup
    coordinator: Coordinator
    revalidation: Revalidation
    store: Store
    delivery: Delivery
    passing: Passing
    rebuilt: RebuiltManifests
    clock: Clock
    via: str
    draining: bool = field(default=False, init=False)
    """Whether the node is going down: nothing new is fetched, connections end with their answers."""

    def not_ready(self) -> list[str]:
        """Why the node cannot do its work, one short line each; none: it can."""
        reasons = ["draining"] if self.draining else []
        if not any(volume.well for volume in self.store.volumes):
            reasons.append("no volume is online; requests pass through")
        return reasons

    def drain(self) -> None:
        """Fetch nothing new, and end each connection with its answer."""
        self.draining = True

    # -- look up, decide ----------------------------------------------------------------------------------------

    async def answer(self, want: Want, exchange: Exchange) -> None:
        """Serve, fetch or pass on; CacheserverError, before the head where ``exchange.channel.head_sent`` says so."""
        for _lookup in range(_LOOKUPS):
            obj = self.lookup.peek(want) or await self.lookup.find(want)
            if obj is None and await self._answer_kept(want, exchange):
                return
            freshness = None if obj is None else self._assess(want, obj.representation)
            facts = Facts(
                method=exchange.method,
                service=want.target.service,
                freshness=freshness,
                passes=obj is None and self.coordinator.passes(want),
                request=request_cache_control(want.fields),
            )
            try:
                if await self._act(decide(facts), want, obj, freshness, exchange):
                    return
                want = replace(want, collapsed=True)  # it has waited for another request's opening
            except GenerationChanged:
                if exchange.channel.head_sent:
                    raise
                want = replace(want, collapsed=True)
        await self._pass(want, exchange, detail="contended")

    def _assess(self, want: Want, rep: Representation) -> Freshness:
        asked, now_s = request_cache_control(want.fields), self.clock.wall_s()
        return assess(rep, want.target.service, want.target.path_and_query, asked, now_s)

    async def _answer_kept(self, want: Want, exchange: Exchange) -> bool:
        """Give an answer of another status that the origin allowed to keep, if it is fresh for this client."""
        kept = self.coordinator.remembered.answer(want)
        freshness = None if kept is None else self._assess(want, kept.head)
        if kept is None or freshness is None or not freshness.fresh:
            return False
        exchange.outcome = Outcome.HIT.value
        left_s = freshness.lifetime_s - freshness.age_s
        exchange.cache_status = object_cache_status(left_s, kept.head.trust, Outcome.HIT)
        fields = with_age(kept.answered.fields, freshness.age_s)
        await self.passing.answered(want, replace(kept.answered, fields=fields), exchange)
        return True

    # -- act ----------------------------------------------------------------------------------------------------

    async def _act(
        self, step: Step, want: Want, obj: StoredObject | None, freshness: Freshness | None, exchange: Exchange
    ) -> bool:
        """Do one step; False when the object has to be looked up again."""
        if step is Step.ONLY_IF_CACHED:
            raise UpstreamTimeout("nothing usable is stored, and the client asked for nothing else")
        if step is Step.PASS:
            await self._pass(want, exchange)
            return True
        if step is Step.OPEN:
            return await self._open(want, exchange)
        assert obj is not None
        assert freshness is not None
        if step is Step.REVALIDATE:
            return await self._revalidate(want, obj, freshness, exchange)
        if step is Step.SERVE_STALE:
            self.revalidation.start(obj, want)
        outcome = Outcome.STALE if step is Step.SERVE_STALE else Outcome.HIT
        await self._serve(want, obj, exchange, outcome, freshness=freshness)
        return True

    async def _open(self, want: Want, exchange: Exchange) -> bool:
        if self.draining:
            raise Draining("the node is going down")
        exchange.outcome = Outcome.MISS.value
        demand = opening_demand(asked_range(want.fields, None, method=exchange.method))
        outcome, first = await self.coordinator.open(want, demand)
        if isinstance(outcome, Answered) and not first and not outcome.meaning.for_all:
            await self._pass(want, exchange)
        elif not isinstance(outcome, Stored):
            await self._unstored(want, outcome, first, exchange)
        else:
            want = want if first else replace(want, collapsed=True)
            obj = outcome.obj if first else await self.lookup.find(want)
            if obj is None:
                return False
            await self._serve(want, obj, exchange, Outcome.MISS, collapsed=not first)
            await self._part_with(outcome)
        return True

    async def _revalidate(self, want: Want, obj: StoredObject, freshness: Freshness, exchange: Exchange) -> bool:
        exchange.outcome = Outcome.REVALIDATED.value
        patience_s = _STALE_AFTER_S if freshness.stale_if_error else None
        try:
            async with asyncio.timeout(patience_s):
                collapsed = obj in self.revalidation
                outcome = await self.revalidation.run(obj, want, forced=freshness.forced)
        except GenerationChanged:
            raise
        except (UpstreamError, TimeoutError):
            if not freshness.stale_if_error:
                raise
            await self._serve(want, obj, exchange, Outcome.STALE)
            return True
        if isinstance(outcome, Stored):
            want = replace(want, collapsed=want.collapsed or collapsed)
            word = Outcome.REVALIDATED if outcome.obj is obj else Outcome.MISS
            await self._serve(want, outcome.obj, exchange, word)
            await self._part_with(outcome)
        else:
            await self._unstored(want, outcome, True, exchange)
        return True

    async def _part_with(self, outcome: Stored) -> None:
        """Remove what may not be kept any longer, now that it was served."""
        if outcome.leaves:
            await part_with(self.store, outcome.obj)

    async def _serve(
        self,
        want: Want,
        obj: StoredObject,
        exchange: Exchange,
        outcome: Outcome,
        *,
        freshness: Freshness | None = None,
        collapsed: bool = False,
    ) -> None:
        """Send what is stored; ``freshness`` where it has just been assessed."""
        if not obj.usable:
            raise GenerationChanged("the object was replaced")
        obj.hold()
        try:
            rep, now_s = obj.representation, self.clock.wall_s()
            boundary = secrets.token_hex(16)
            reply = plan_object_reply(rep, want.fields, method=exchange.method, now_s=now_s, boundary=boundary)
            await self.delivery.check_first(obj, reply)
            spans = [(part.start, part.stop) for part in reply.parts]
            there = all(obj.pieces.stored_until(start, stop) == stop for start, stop in spans)
            if outcome is Outcome.HIT and not there:
                outcome = Outcome.PARTIAL
            exchange.outcome = outcome.value
            freshness = freshness or self._assess(want, rep)
            left_s = freshness.lifetime_s - freshness.age_s
            exchange.cache_status = object_cache_status(left_s, rep.trust, outcome, collapsed=collapsed)
            lines = object_lines(
                rep,
                form=want.target.form,
                age_s=current_age_s(rep, now_s),
                via=self.via,
                cache_status=exchange.cache_status,
            )
            reply = reply.with_lines(lines)
            for start, stop in spans:
                self.store.touch(obj, *obj.pieces.covering(start, stop))
            stored = await self.delivery.send(exchange.channel, want, obj, reply)
            if outcome is Outcome.HIT and not stored:
                exchange.outcome = Outcome.PARTIAL.value
            if outcome is Outcome.HIT and len(spans) == 1 and not exchange.channel.http_10:
                exchange.hot = self._hot_entry(want, obj, exchange)
        finally:
            obj.release()

    def _hot_entry(self, want: Want, obj: StoredObject, exchange: Exchange) -> HotEntry | None:
        """What the fast lane needs to answer the same head again; None where the answer could differ."""
        rep = obj.representation
        freshness = self._assess(want, rep)
        if not freshness.fresh or rep.vary or not is_plain(want.fields):
            return None
        return HotEntry(
            obj=obj,
            representation=rep,
            length_bytes=rep.length_bytes,
            label=exchange.label(),
            fresh_until_s=self.clock.monotonic_s() + freshness.lifetime_s - freshness.age_s,
            lines=hit_lines(rep, form=want.target.form, via=self.via, lifetime_s=freshness.lifetime_s),
        )

    async def _unstored(self, want: Want, outcome: Answered | Relayed, first: bool, exchange: Exchange) -> None:
        """Give a client an outcome that is no object; ``first``: its own request led to it."""
        if isinstance(outcome, Relayed):
            await self._relayed(want, outcome, first, exchange)
            return
        error = OriginStatus(outcome.status, outcome.fields, source=outcome.source)
        if not await self.rebuilt.serve(want, exchange, error):
            _note_pass(exchange, fwd="uri-miss", fwd_status=outcome.status, collapsed=not first or None)
            await self.passing.answered(want, outcome, exchange)

    async def _relayed(self, want: Want, relayed: Relayed, first: bool, exchange: Exchange) -> None:
        status = relayed.answer.status
        plain = not any(name in want.fields for name in CONDITIONS)
        complete = status != 206 or (relayed.covers_all and "Range" not in want.fields)
        complete = complete and relayed.reason != CODING
        if not first or not plain or not complete:
            if first:
                relayed.answer.close()
            await self._pass(want, exchange, detail=relayed.reason)
            return
        _note_pass(exchange, fwd="uri-miss", fwd_status=status, stored=False, detail=relayed.reason)
        await self.passing.pass_on(want, relayed.answer, exchange, prefix=relayed.prefix)

    async def _pass(self, want: Want, exchange: Exchange, *, detail: str | None = None) -> None:
        _note_pass(exchange, fwd="bypass", stored=False, detail=detail)
        await self.passing.through(want, exchange)


def _note_pass(exchange: Exchange, **members: Any) -> None:
    exchange.outcome = Outcome.PASS.value
    exchange.cache_status = cache_status(NODE_NAME, hit=False, **members)
