"""Judging the trust of stored objects again, when what is said of their contents may have changed.

Owns: the era, a number that every change of catalogues and settings raises; what a hit compares with it; carrying out
the rule of ``core.integrity.stored_trust``. An object of this era is given out without a further look. Must not decide
when objects that no client asks for are judged: ``maintenance.rejudging`` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import StoreError, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.release import Verdict
from cacheserver.core.integrity.stored_trust import (
    Judgement,
    StoredContent,
    fingerprint,
    judge_stored,
    satisfies,
)
from cacheserver.core.integrity.trust import Statements, Trust
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Want
from cacheserver.fill.refused_content import note_refused
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Anchor, Meter
from cacheserver.store.object.rebuilt_manifest import claims_of_pieces
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject

_log = get_logger(__name__)
PATIENCE_S = 10.0
"""How long a hit waits for an anchor or for the digest of the whole; its client would give up after 20 s."""
_MOST_ASKED = 65_536

Recheck = Callable[[StoredObject, Want], Awaitable[None]]
"""Asks again for what could not be learnt of an object, and holds what is stored of it against that."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How judging an object went."""

    given: bool
    """Whether it may be given out."""
    settled: bool = True
    read_bytes: int = 0


class Judge:
    """Judges the objects of one store; ``recheck`` has at most ``hold_timeout_s`` before a hit goes out."""

    def __init__(self, *, store: Store, anchor: Anchor, recheck: Recheck, hold_timeout_s: float, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._anchor = anchor
        self._recheck = recheck
        self._hold_timeout_s = hold_timeout_s
        self._asked = BoundedMemory[str, bool](_MOST_ASKED)
        """Objects made or asked about since the start: what was stored before it may never have been compared."""
        self._flights = SingleFlight[tuple[StoredObject, int], Outcome]("judge")
        """By object and era: what was judged by earlier statements is no answer now."""
        self._era = 1
        store.notifications.created.append(self._created)
        store.notifications.filled.append(self._filled)

    def begin_era(self) -> None:
        """Catalogues or settings have changed: every object is looked at again before it is given out."""
        self._era += 1

    def _created(self, obj: StoredObject) -> None:
        obj.judged_in = self._era  # its fill holds its bytes against what is said now
        self._asked.keep(obj.object_id, True)

    def _filled(self, obj: StoredObject) -> None:
        if obj.judged_in == -self._era:  # its fill may know less than is said now
            obj.judged_in = 0
            self._store.notifications.unjudged(obj)

    def _note(self, obj: StoredObject, era: int) -> None:
        """It was judged; one that is incomplete is judged once more after its fill, hence the sign."""
        obj.judged_in = era if obj.pieces.complete else -era

    def is_judged(self, obj: StoredObject) -> bool:
        """Whether an object was judged in this era; no I/O (I6)."""
        return abs(obj.judged_in) == self._era

    async def admits(self, obj: StoredObject, target: Target) -> bool:
        """Whether a stored object may be given out for ``target``; UpstreamTimeout where this takes too long.

        What is known at once is weighed at once. The rest is waited for where the service demands an anchor, and is
        done in the background where it does not.
        """
        if self.is_judged(obj):
            return True
        known = obj.representation
        if known.unsettled and known.trust is Trust.SIMPLE and not self._asked.get(obj.object_id):
            await self._ask_again(obj, target)
            if obj.obsolete:
                return False
        era, known = self._era, obj.representation
        told = await self._told(obj, target, ask=False)
        content = _content(obj)
        required = _required(target)
        if fingerprint(told) == known.statements and (not required or satisfies(content, told)):
            self._note(obj, era)
            if known.unsettled:
                self._store.notifications.unjudged(obj)
            return not obj.obsolete
        if required:
            return await self._confirmed(obj, target)
        if judge_stored(content, told, require="any").verdict is Verdict.REFUSE:
            return (await self.judge(obj, target, ask=False)).given
        self._store.notifications.unjudged(obj)
        return not obj.obsolete

    async def _ask_again(self, obj: StoredObject, target: Target) -> None:
        """Hold what an earlier run of the node has stored against the metadata that it may have waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._hold_timeout_s):
                await self._recheck(obj, Want(target, Fields()))
        self._asked.keep(obj.object_id, True)

    async def _confirmed(self, obj: StoredObject, target: Target) -> bool:
        """Whether all that is said confirms an object. UpstreamTimeout: not known in time, the work goes on."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return (await self.judge(obj, target)).given
        except TimeoutError as exc:
            raise UpstreamTimeout("stored content is still being verified", source=target.origin) from exc

    async def judge(self, obj: StoredObject, target: Target, *, ask: bool = True) -> Outcome:
        """Judge an object by all that is said of it now; one that is contradicted is removed.

        ``ask`` False: no service is asked.
        """
        return await self._flights.run((obj, self._era), lambda: self._judge(obj, target, ask))

    async def _judge(self, obj: StoredObject, target: Target, ask: bool) -> Outcome:
        if not obj.usable:
            return Outcome(given=False)
        era, read_bytes = self._era, 0
        with obj.holding():
            told = await self._told(obj, target, ask=ask)
            try:
                judgement = await self._judgement(obj, target, told)
                if judgement.names:
                    found = await self._store.whole_digests(obj, judgement.names)
                    read_bytes = obj.representation.length_bytes
                    judgement = await self._judgement(obj, target, told, found)
            except StoreError:
                return Outcome(given=not _required(target) and obj.usable, settled=False, read_bytes=read_bytes)
            if era != self._era:
                return await self._judge(obj, target, ask)
            await self._carry_out(obj, judgement, told, era)
        given = judgement.verdict is Verdict.RELEASE and not obj.obsolete
        return Outcome(given, judgement.settled, read_bytes)

    async def _told(self, obj: StoredObject, target: Target, *, ask: bool) -> Statements:
        """What is said now of the bytes that are stored."""
        known = obj.representation
        return (await self._anchor.claims(target, known.fields, secure=known.secure, ask=ask)).about(known.fields)

    async def _judgement(
        self, obj: StoredObject, target: Target, told: Statements, found: dict[str, bytes] | None = None
    ) -> Judgement:
        content = replace(_content(obj), found=found)
        stated = [claim for claim in told if claim.authentic and claim.states_pieces]
        if obj.pieces.complete and any(content.hash_of_hashes != c.hash_of_hashes or c.manifest_digest for c in stated):
            right = await self._store.run(obj.volume, claims_of_pieces, obj.file, stated)
            content = replace(content, pieces_of=right)
        return judge_stored(content, told, require=target.service.require)

    async def _carry_out(self, obj: StoredObject, judgement: Judgement, told: Statements, era: int) -> None:
        if judgement.verdict is Verdict.REFUSE:
            facts = {"object_id": obj.object_id, "service": obj.representation.service}
            if judgement.anchor:
                facts["anchor"] = judgement.anchor
            event(_log, "stored_object_contradicted", severity=logging.WARNING, reason=judgement.reason.value, **facts)
            self._meter.content_refused(judgement.reason.value)
            for piece in range(len(obj.pieces)):
                obj.condemn(piece)  # who is being sent it is cut
            await self._store.retire(obj, reason="contradicted")
            return
        if judgement.verdict is Verdict.HOLD:
            note_refused(self._meter, judgement.reason, object_id=obj.object_id)
        known = obj.representation
        judged = replace(known, trust=judgement.trust, statements=fingerprint(told))
        if judged != known:
            await self._store.refresh(obj, judged)
        if judgement.settled:
            self._note(obj, era)
        else:
            self._store.notifications.unjudged(obj)

    async def stop(self) -> None:
        """End what is under way; nothing is settled by that."""
        await self._flights.stop()


def _required(target: Target) -> bool:
    return target.service.require == "anchored"


def _content(obj: StoredObject) -> StoredContent:
    known = obj.representation
    return StoredContent(
        length_bytes=known.length_bytes,
        complete=obj.pieces.complete,
        trust=known.trust,
        hash_of_hashes=None if known.hash_of_hashes is None else bytes.fromhex(known.hash_of_hashes),
        statements=known.statements,
    )
