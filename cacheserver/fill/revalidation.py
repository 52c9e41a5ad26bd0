"""Asking the origin whether a stored object still holds: once for all who ask at the same time.

Owns: the conditional request, what its answer means for the stored object, which revalidations are under way. Must not
decide when to revalidate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.cache.answer import WHOLE
from cacheserver.core.cache.generation import confirms, is_other, validators_of
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.cache.question import is_private, speaks_for_all
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import BadAnswer, GenerationChanged, OriginStatus, UpstreamError
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.opening import Opener, is_same
from cacheserver.fill.outcome import Opening, Relayed, Stored, close_relayed
from cacheserver.fill.remembered import Remembered
from cacheserver.store.stored_object import StoredObject


class Revalidation:
    """Revalidates stored objects; ``begin`` starts the fill of an object that replaces one.

    What one client's credentials, spelling or directives lead to is for that client; see ``core.cache.question``.
    """

    def __init__(
        self,
        context: FillContext,
        *,
        opener: Opener,
        begin: Callable[[Opening, Want, int], Awaitable[None]],
        remembered: Remembered,
    ) -> None:
        self._context = context
        self._opener = opener
        self._begin = begin
        self._remembered = remembered
        self._flights = SingleFlight[StoredObject, Opening]("revalidate", given_up=context.asker.slots.waits)

    def __contains__(self, obj: StoredObject) -> bool:
        """Whether the origin is being asked for this object."""
        return obj in self._flights

    async def run(self, obj: StoredObject, want: Want, *, forced: bool = False) -> Opening:
        """Ask the origin whether a stored object still holds. Raises UpstreamError when the origin does not say.

        ``Stored`` holds the same object where it does. GenerationChanged: the answer was meant for another client.
        ``forced``: only this client's directives ask; for all others the object is fresh.
        """
        first, asked = obj not in self._flights, self._remembered.question(want)
        same = first or self._flights.is_started_by(obj, asked)
        if first:
            self._launch(obj, want, forced=forced)
        elif not want.collapsed:
            self._context.meter.collapsed()
        left = close_relayed if first else None
        try:
            outcome = await self._flights.run(obj, lambda: self._revalidate(obj, want, forced), on_cancelled=left)
        except UpstreamError as exc:
            if same:
                raise
            raise GenerationChanged("another request failed") from exc
        for_one = isinstance(outcome, Answered) and not (same and outcome.meaning.for_all)
        if not first and (for_one or isinstance(outcome, Relayed)):
            raise GenerationChanged("the answer was meant for another client")
        return outcome

    def start(self, obj: StoredObject, want: Want) -> None:
        """The same in the background; a failure leaves the stale object as it is."""
        if obj not in self._flights and obj.usable:
            self._launch(obj, want, forced=False).add_done_callback(close_relayed)

    def _launch(self, obj: StoredObject, want: Want, *, forced: bool) -> asyncio.Task[Opening]:
        """Start the task, which holds the object to its end. Raises GenerationChanged where it cannot be held."""
        if not obj.usable:
            raise GenerationChanged("the object was replaced")
        by = self._remembered.question(want)
        task = self._flights.start(obj, lambda: self._revalidate(obj, want, forced), by=by)
        obj.hold_for(task)
        return task

    async def stop(self) -> None:
        """End every revalidation."""
        await self._flights.stop()

    async def _revalidate(self, obj: StoredObject, want: Want, forced: bool) -> Opening:
        known, since = obj.representation, self._context.store.purges
        private = is_private(want.target, self._context.asker.upstream_fields(want))
        conditions = (
            ("If-None-Match", known.validators.etag),
            ("If-Modified-Since", known.validators.last_modified),
        )
        extra = tuple((name, value) for name, value in conditions if value is not None)
        answer = await self._context.asker.send(want, extra=extra)
        if answer.status == 304 and confirms(known.validators, validators_of(answer.fields)):
            answer.close()
            return Stored(obj) if forced and private else await self._opener.refresh(obj, want, answer)
        if answer.status == 304:  # of another generation, and it says nothing of ours (RFC 9111 §4.3.4)
            answer.close()
            answer = await self._context.asker.send(want)
        if answer.status in (206, 304):
            answer.close()
            raise BadAnswer(f"{answer.status} to a request for the whole", source=answer.source)
        if answer.status != 200:
            meaning = meaning_of(answer.status)
            if meaning.passing:
                answer.close()
                raise OriginStatus(answer.status, answer.fields, source=answer.source)
            if meaning.ends_object:
                await self._end(obj, want)
            return await self._opener.refusal(want, answer, WHOLE)
        opened = self._context.asker.checked(want, answer, WHOLE)
        if is_same(known, opened):  # the origin does not do 304
            answer.close()
            return await self._opener.refresh(obj, want, answer)
        if forced and (private or not _shows_other(known, opened)):
            return Relayed(answer, WHOLE, "forced", remember=False)
        outcome = await self._opener.take(replace(want, since=since), opened, WHOLE)
        await self._begin(outcome, want, since)
        if not isinstance(outcome, Stored):
            await self._end(obj, want)
        return outcome

    async def _end(self, obj: StoredObject, want: Want) -> None:
        """The origin has the object no more, if this request speaks for all clients; else it is asked again."""
        if speaks_for_all(obj.representation, want.target, self._context.asker.upstream_fields(want)):
            await self._context.store.retire(obj, reason="superseded")


def _shows_other(known: Representation, opened: Opened) -> bool:
    accepted = opened.accepted
    return is_other(known.validators, known.length_bytes, accepted.validators, accepted.total)
