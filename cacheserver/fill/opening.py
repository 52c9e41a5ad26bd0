"""The first answer for an object that is not stored: ask, judge, store or hand on.

Owns: what is asked for first, whether the answer becomes an object. Must not talk to clients. The outcome is a value:
``Stored``, ``Relayed`` (the answer itself, for one client) or ``Answered`` (a refusal of the origin, small enough to
give to everyone who waited).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cacheserver.core.cache.answer import WHOLE, Asked
from cacheserver.core.cache.freshness import received_age_s
from cacheserver.core.cache.generation import combinable
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.origin_status import StatusMeaning
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.storable import NotStorable, Storable, storability
from cacheserver.core.cache.updating import dated
from cacheserver.core.errors import StoreError, UpstreamError, WrongContent
from cacheserver.core.http.codings import content_codings
from cacheserver.core.http.field_rules import OF_THE_MESSAGE, end_to_end, storable_fields
from cacheserver.core.http.vary import variant_key, vary_names
from cacheserver.core.integrity.blame import whole_evidence
from cacheserver.core.integrity.piece_gate import PieceGate
from cacheserver.core.integrity.release import Facts, Reason, Verdict, decide
from cacheserver.core.request.keys import object_id
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.context import FillContext
from cacheserver.fill.metadata import Metadata, MetadataFetcher
from cacheserver.fill.outcome import CODING, OF_THE_REQUEST, Opening, Relayed, Stored
from cacheserver.fill.refreshing import refresh
from cacheserver.fill.refused_content import note_refused
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.fill.unmeasured import Unmeasured
from cacheserver.ports import UpstreamAnswer
from cacheserver.store.stored_object import StoredObject, VaryMarker

_BODY_LIMIT_BYTES = 1 << 18


class Opener:
    """Performs openings; collapsing them, and starting fills, is the coordinator's.

    A ``Stored`` is returned in the very step from which on its object can be found: its fill is to be started before
    the next ``await``.
    """

    def __init__(
        self, context: FillContext, *, fetcher: MetadataFetcher, piece_size_bytes: int, buffer: BodyBuffer
    ) -> None:
        self._store, self._asker, self._options = context.store, context.asker, context.options
        self._meter = context.meter
        self._fetcher = fetcher
        self._piece_size_bytes = piece_size_bytes
        self._buffer = buffer
        self._unmeasured = Unmeasured(asker=context.asker, buffer=buffer, first_byte_s=context.options.first_byte_s)

    async def open(self, want: Want, demand: tuple[int, int | None] | None) -> Opening:
        """Ask for what covers ``demand`` (None: only the length is wanted, for a suffix range). UpstreamError."""
        asked = self._first_span(demand, self._asker.slots.span_pieces(want.target.origin))
        for attempt in range(self._options.tries):
            last = attempt + 1 == self._options.tries
            try:
                outcome = await self._open(want, asked)
                if last or not isinstance(outcome, Answered) or outcome.meaning is not StatusMeaning.OUTAGE:
                    return outcome
            except UpstreamError as exc:
                if not exc.retryable or last:
                    raise
            await asyncio.sleep(self._options.backoff_s * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _first_span(self, demand: tuple[int, int | None] | None, span_pieces: int) -> Asked:
        size = self._piece_size_bytes
        if demand is None:
            return Asked(0, 1)
        first = demand[0] // size
        most = first + span_pieces
        stop = most if demand[1] is None else min(most, -(-demand[1] // size))
        return Asked(first * size, stop * size)

    async def _open(self, want: Want, asked: Asked) -> Opening:
        answer, answered = await self._asker.ask(want, asked)
        if answer.status not in (200, 206, 304):
            return await self.refusal(want, answer, answered)
        if _free_coding(want, answer):
            return Relayed(answer, answered, CODING, remember=True)
        opened = self._asker.checked(want, answer, answered)
        return await self.take(want, replace(opened, undivided=answer.status == 200 and not asked.whole), answered)

    async def refusal(self, want: Want, answer: UpstreamAnswer, asked: Asked) -> Opening:
        """Read what the origin says instead of the representation; an answer that is too long is for one client."""
        try:
            body = await self._buffer.collect(answer, want.client, limit_s=2.0, limit_bytes=_BODY_LIMIT_BYTES)
        except UpstreamError:
            said, complete = b"", True
        else:
            said, complete = body.data, body.complete
            body.lease.close()  # what is remembered of it has a bound of its own
        if not complete:
            return Relayed(answer, asked, "refusal", remember=False, prefix=said)
        answer.close()
        return Answered(
            answer.status,
            dated(end_to_end(answer.fields), answer.response_time_s),
            said,
            answer.source,
            answer.request_time_s,
            answer.response_time_s,
        )

    async def take(self, want: Want, opened: Opened, asked: Asked) -> Opening:
        """Make an object of a checked 200 or 206 if it may be stored."""
        try:
            return await self._take(want, opened, asked)
        except BaseException:
            opened.answer.close()
            raise

    async def _take(self, want: Want, opened: Opened, asked: Asked) -> Opening:
        answer, accepted = opened.answer, opened.accepted
        verdict = storability(
            method="GET",
            request=self._asker.upstream_fields(want),
            status=answer.status,
            response=answer.fields,
            service=want.target.service,
        )
        if isinstance(verdict, NotStorable):
            return Relayed(answer, asked, verdict.reason, remember=verdict.reason not in OF_THE_REQUEST)
        immutable = want.target.service.lifetime == "immutable"
        joinable = combinable(accepted.validators, answer.fields.value("Date"), immutable)
        if answer.status == 206 and not joinable and accepted.stop != accepted.total:
            answer.close()
            return await self._open(want, WHOLE)
        if accepted.total is None:
            measured = await self._unmeasured.measure(want, opened, asked)
            return measured if isinstance(measured, Relayed) else await self.take(want, measured, WHOLE)
        marker = await self._marker(want.target.object_id, vary_names(answer.fields) or ())
        representation = self._representation(want, opened, accepted.total, joinable, verdict, marker)
        metadata = await self._required_metadata(want, opened, representation)
        if metadata is not None and not representation.length_bytes:
            self._refuse_wrong_empty(answer, metadata, representation.object_id)
        facts = Facts(require=want.target.service.require, authentic=metadata is not None and metadata.anchored)
        if (rule := decide(facts)).verdict is Verdict.REFUSE:
            note_refused(self._meter, rule.reason, object_id=representation.object_id)
            return Relayed(answer, asked, "not_anchored", remember=metadata is None or not metadata.unknown)
        if metadata is not None:
            representation = replace(representation, unsettled=metadata.unknown)
        if metadata is not None and metadata.manifest is not None:
            known = metadata.manifest.hash_of_hashes.hex()
            representation = replace(representation, trust=metadata.trust, hash_of_hashes=known)
        already = await self._same(representation, opened)
        if already is not None:
            answer.close()
            return await self.refresh(already, want, answer, marker=representation.marker)
        only_length = (asked == Asked(0, 1) and joinable) or not representation.piece_count
        try:
            obj = await self._store.create(representation, since=want.since)
        except StoreError as exc:
            return Relayed(answer, asked, exc.code, remember=False)
        if only_length:
            answer.close()
            return Stored(obj)
        return Stored(obj, opened, metadata)

    async def _same(self, rep: Representation, opened: Opened) -> StoredObject | None:
        """The stored object that an answer is of: it was made, or its Vary marker lost, since the client looked."""
        found = await self._store.find(rep.object_id) if rep.vary else self._store.peek(rep.object_id)
        if not isinstance(found, StoredObject) or found.representation.key != rep.key or not found.usable:
            return None
        return found if is_same(found.representation, opened) and not self._store.should_move(found) else None

    async def _marker(self, object_id: str, names: tuple[str, ...]) -> VaryMarker:
        """The Vary marker at a primary key, a new one where there is none for these fields; number 0 for no fields."""
        if not names:
            return VaryMarker(object_id, names)
        found = await self._store.find(object_id)
        if isinstance(found, VaryMarker) and found.names == names:
            return found
        return VaryMarker.new(object_id, names)

    async def refresh(
        self, obj: StoredObject, want: Want, answer: UpstreamAnswer, *, marker: int | None = None
    ) -> Stored:
        """Take up the fields and times of an answer that says: what is stored still holds."""
        request = self._asker.upstream_fields(want)
        return await refresh(self._store, obj, answer, request=request, target=want.target, marker=marker)

    async def _required_metadata(self, want: Want, opened: Opened, rep: Representation) -> Metadata | None:
        """Metadata before anything is stored: of an empty content, and where the service demands anchored content.

        None elsewhere.
        """
        if want.target.service.require != "anchored" and rep.length_bytes:
            return None
        fields = opened.answer.fields
        return await self._fetcher.fetch(want, fields, secure=rep.secure, length_bytes=rep.length_bytes)

    def _refuse_wrong_empty(self, answer: UpstreamAnswer, metadata: Metadata, object_id: str) -> None:
        """Judge an empty content, which has no piece to be judged with. NoSource, WrongContent."""
        claims = metadata.of_whole(self._piece_size_bytes)
        gate = PieceGate(
            start=0,
            length_bytes=0,
            piece_size_bytes=self._piece_size_bytes,
            claims=claims,
        )
        try:
            metadata.refuse_blocked(self._meter, object_id)
            gate.release()
        except WrongContent as exc:
            note_refused(self._meter, Reason.WRONG_CONTENT, object_id=object_id)
            claim = next(claim for claim in claims if claim.anchor == exc.anchor)
            self._asker.blame(answer.asked, whole_evidence(claim, {answer.asked}), object_id)
            raise

    def _representation(
        self, want: Want, opened: Opened, total: int, joinable: bool, verdict: Storable, marker: VaryMarker
    ) -> Representation:
        names, key = marker.names, want.target.key
        part = opened.answer.status == 206 and opened.accepted.stop != opened.accepted.total
        strip = (*verdict.strip, *(OF_THE_MESSAGE if part else ()))
        if names:
            key = variant_key(key, names, self._asker.upstream_fields(want))
        return Representation(
            key=key,
            object_id=object_id(key),
            service=want.target.service.name,
            length_bytes=total,
            piece_size_bytes=self._piece_size_bytes,
            fields=dated(storable_fields(opened.answer.fields, strip), opened.answer.response_time_s),
            validators=opened.accepted.validators,
            request_time_s=opened.answer.request_time_s - received_age_s(opened.answer.fields),
            response_time_s=opened.answer.response_time_s,
            origin=want.target.origin,
            path_and_query=want.target.path_and_query.partition("?")[0],
            vary=names,
            marker=marker.number,
            combinable=joinable,
            secure=opened.answer.secure,
            unsettled=self._fetcher.expects_manifest(want.target),
        )


def _free_coding(want: Want, answer: UpstreamAnswer) -> bool:
    """Whether an own service's origin chose a content coding for a client that left it free (RFC 9110 §12.5.3)."""
    free = not any(name in want.fields for name in ("Accept-Encoding", "Range"))
    return free and want.target.service.own and bool(content_codings(answer.fields))


def is_same(known: Representation, opened: Opened) -> bool:
    """Whether a 200 or 206 is of the generation that is stored already."""
    tag = opened.accepted.validators.strong_etag
    return tag is not None and tag == known.validators.strong_etag and opened.accepted.total == known.length_bytes
