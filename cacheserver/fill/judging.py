"""Judging the trust of stored objects again, when what is said of their contents may have changed.

Owns: the era, a number that every change of catalogues and settings raises; what a hit compares with it; carrying out
the rule of ``core.integrity.stored_trust``. An object of this era is given out without a further look. Must not decide
when objects that no client asks for are judged: ``maintenance.rejudging`` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.errors import StoreError, UpstreamTimeout
from cacheserver.core.integrity.manifest import PIECE_SIZES, Manifest
from cacheserver.core.integrity.stored_trust import (
    Judgement,
    StoredContent,
    Verdict,
    fingerprint,
    judge_stored,
    satisfies,
)
from cacheserver.core.integrity.trust import Claim, Statements
from cacheserver.core.request.target import Target
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Anchor
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.rebuilt_manifest import recorded_digests
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject

_log = get_logger(__name__)
PATIENCE_S = 10.0
"""How long a hit waits for an anchor or for the digest of the whole; its client would give up after 20 s."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How judging an object went."""

    given: bool
    """Whether it may be given out."""
    settled: bool = True
    read_bytes: int = 0


class Judge:
    """Judges the objects of one store."""

    def __init__(self, *, store: Store, anchor: Anchor) -> None:
        self._store = store
        self._anchor = anchor
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
        era, known = self._era, obj.representation
        told = await self._anchor.claims(target, known.fields, secure=known.secure, ask=False)
        content = _content(obj)
        required = _required(target)
        if fingerprint(told) == known.statements and (not required or satisfies(content, told)):
            self._note(obj, era)
            if known.unsettled:
                self._store.notifications.unjudged(obj)
            return not obj.obsolete
        if required:
            return await self._confirmed(obj, target)
        if judge_stored(content, told, require_anchored=False).verdict is Verdict.REMOVE:
            return (await self.judge(obj, target, ask=False)).given
        self._store.notifications.unjudged(obj)
        return not obj.obsolete

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
            known = obj.representation
            told = await self._anchor.claims(target, known.fields, secure=known.secure, ask=ask)
            try:
                judgement = await self._judgement(obj, target, told)
                if judgement.verdict is Verdict.READ:
                    found = await self._store.whole_digests(obj, judgement.names)
                    read_bytes = obj.representation.length_bytes
                    judgement = await self._judgement(obj, target, told, found)
            except StoreError:
                return Outcome(given=not _required(target) and obj.usable, settled=False, read_bytes=read_bytes)
            if era != self._era:
                return await self._judge(obj, target, ask)
            await self._carry_out(obj, judgement, told, era)
        given = judgement.verdict is Verdict.KEEP and not obj.obsolete
        return Outcome(given, judgement.settled, read_bytes)

    async def _judgement(
        self, obj: StoredObject, target: Target, told: Statements, found: dict[str, bytes] | None = None
    ) -> Judgement:
        own, stated = None, [claim for claim in told if claim.authentic and claim.states_pieces]
        if obj.pieces.complete and stated:
            own = await self._store.run(obj.volume, _own_manifest, obj.file, stated)
        content = replace(_content(obj), own=own, found=found)
        return judge_stored(content, told, require_anchored=_required(target))

    async def _carry_out(self, obj: StoredObject, judgement: Judgement, told: Statements, era: int) -> None:
        if judgement.verdict is Verdict.REMOVE:
            facts = {"object_id": obj.object_id, "service": obj.representation.service}
            event(_log, "stored_object_contradicted", severity=logging.WARNING, reason=judgement.reason, **facts)
            for piece in range(len(obj.pieces)):
                obj.condemn(piece)  # who is being sent it is cut
            await self._store.retire(obj, reason="contradicted")
            return
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


def _own_manifest(file: ObjectFile, stated: Sequence[Claim]) -> Manifest | None:
    """The manifest of a complete object, in pieces of the size that fits a claim, else of the first size.

    Claims do not say of which size their pieces are. Where the content was held against a manifest, its hash of hashes
    is known, and no other size is tried. Blocking; DiskError.
    """
    length, own = file.layout.length_bytes, None
    for size in PIECE_SIZES if file.representation.hash_of_hashes is None else PIECE_SIZES[:1]:
        digests = recorded_digests(file) if size == file.layout.piece_size_bytes else file.digests_of(0, length, size)
        made = Manifest(length, size, digests) if digests else None
        if made is not None and any(claim.agrees_with(made) for claim in stated):
            return made
        own = own or made
    return own
