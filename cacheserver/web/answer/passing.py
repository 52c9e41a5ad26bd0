"""Answers that go through without being stored: status, fields and body of the origin, framed for the client.

Owns: relaying, giving a length to what has none where the client needs one, and having what passes verified where
something says what it must be (I1). Must not store anything; framing is ``web.answer.pass_plan``.
"""

from __future__ import annotations

import asyncio

from cacheserver.core.cache.answer import ExpectedGeneration, combinable, validators_of
from cacheserver.core.errors import BadAnswer, BadPiece, OriginStatus, TruncatedBody, WrongContent
from cacheserver.core.request.target import Form
from cacheserver.fill.asking import Ask, Opened, Want
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.opening import Answered
from cacheserver.fill.relay.body_buffer import Spool
from cacheserver.fill.relay.gated_body import Begun, BodySpan, GatedBodies
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.ports import UpstreamAnswer
from cacheserver.web.answer.pass_plan import (
    CONDITIONS,
    PassPlan,
    Wider,
    fields_upstream,
    needs_length,
    plan_pass,
    wider_range,
)
from cacheserver.web.answer.refusals import relays_status
from cacheserver.web.heads import Head, relayed_lines
from cacheserver.web.options import ServerOptions
from cacheserver.web.sending.response import ResponseWriter

_REDIRECTS = (300, 301, 302, 303, 307, 308)


class Passing:
    """Relays answers to clients."""

    def __init__(
        self, *, gated: GatedBodies, metadata: PassMetadata, via: str, spool: Spool, first_byte_s: float
    ) -> None:
        self._asker = gated.asker
        self._meter = gated.meter
        self._gated = gated
        self._metadata = metadata
        self._via = via
        self._spool = spool
        self._first_byte_s = first_byte_s

    async def through(
        self, channel: ResponseWriter, want: Want, *, method: str, options: ServerOptions, cache_status: str
    ) -> None:
        """Ask the origin what the client asked and relay the answer. UpstreamError before the head."""
        by_pieces = method == "GET" and self._metadata.expects_manifest(want.target)
        wider = wider_range(want, self._metadata.piece_size_bytes) if by_pieces else None
        extra = fields_upstream(want, method, by_pieces=by_pieces, wider=wider)
        answer = await self._asker.send(want, method=method, extra=extra)
        await self.relay(channel, want, answer, method=method, options=options, cache_status=cache_status, wider=wider)

    async def relay(
        self,
        channel: ResponseWriter,
        want: Want,
        answer: UpstreamAnswer,
        *,
        method: str,
        options: ServerOptions,
        cache_status: str,
        prefix: bytes = b"",
        wider: Wider | None = None,
    ) -> None:
        """Send an open answer on; ``prefix`` are bytes of its body that were read already.

        ``wider``: what was asked for in place of the client's range.
        """
        try:
            self._refuse_status(answer.status, want, options, answer.source)
            self._refuse_contradiction(want, answer, wider)
            lines = relayed_lines(answer.fields, via=self._via, cache_status=cache_status)
            plan = plan_pass(answer, want, method, lines, wider=wider)
            if method == "HEAD" or answer.status in (204, 304):
                await channel.start(plan.head)
                return
            if plan.head.length_bytes is None and needs_length(want, answer.status):
                prefix = await self._spooled(answer, prefix)
                plan = plan_pass(answer, want, method, lines, wider=wider, collected=len(prefix))
            await self._send(channel, want, answer, plan, prefix)
            await channel.finish()
        finally:
            answer.close()

    async def answered(
        self, channel: ResponseWriter, want: Want, answered: Answered, *, options: ServerOptions, cache_status: str
    ) -> None:
        """Give a client the origin's small refusal, or a 502 that names it (protocol of cache-host form)."""
        self._refuse_status(answered.status, want, options, want.target.origin)
        lines = relayed_lines(answered.fields, via=self._via, cache_status=cache_status)
        await channel.start(Head(answered.status, lines, len(answered.body)))
        await channel.write(answered.body)
        await channel.finish()

    def _refuse_status(self, status: int, want: Want, options: ServerOptions, source: str) -> None:
        if want.target.form is Form.CACHE_HOST and (status < 200 or status == 204 or status in _REDIRECTS):
            raise OriginStatus(status, source=source)
        relayed = relays_status(
            status,
            want.target.form,
            cache_host_errors=options.cache_host_errors,
            host_errors=options.host_errors,
        )
        if not relayed:
            raise OriginStatus(status, source=source)

    def _refuse_contradiction(self, want: Want, answer: UpstreamAnswer, wider: Wider | None) -> None:
        if answer.status == 304 and not any(name in want.fields for name in CONDITIONS[1:]):
            raise BadAnswer("304 to a request without conditions", source=answer.source)
        if "Range" not in want.fields:
            return
        if "Accept-Encoding" not in want.fields and "Content-Encoding" in answer.fields:
            raise BadAnswer("content coding was not asked for", source=answer.source)
        if answer.status == 206 and wider is None and self._metadata.expects_manifest(want.target):
            raise BadAnswer("partial answer to a request without Range", source=answer.source)

    async def _spooled(self, answer: UpstreamAnswer, prefix: bytes) -> bytes:
        body = await self._spool.collect(answer, limit_s=self._first_byte_s, prefix=prefix)
        if not body.complete:
            raise BadAnswer("origin names no length, and the answer is too long to collect", source=answer.source)
        return body.data

    # -- bodies ---------------------------------------------------------------------------------------------------

    async def _send(
        self, channel: ResponseWriter, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes
    ) -> None:
        """Head and body: verified where anything says what the content must be, else as it comes."""
        metadata: Metadata | None = None
        expected = self._metadata.expects_manifest(want.target)
        if _identity(answer) and (plan.whole or (expected and plan.head.status in (200, 206))):
            prefix, metadata = await self._meanwhile(want, answer, plan, prefix)
            metadata.refuse_blocked()
        says_something = metadata is not None and (
            metadata.manifest is not None or (plan.whole and any(claim.whole_digests for claim in metadata.claims))
        )
        if metadata is not None and says_something:
            await self._verified(channel, want, answer, plan, prefix, metadata)
        else:
            await channel.start(plan.head)
            await self._stream(channel, want, answer, plan, prefix)

    async def _meanwhile(
        self, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes
    ) -> tuple[bytes, Metadata]:
        """The content's metadata, and what was read of the body while it came: at most about a piece.

        Where no manifest is expected only names and fields are looked at: nothing is read, which could take its time.
        """
        if not self._metadata.expects_manifest(want.target):
            return prefix, await self._metadata.get(want, answer.fields, plan.total)
        asking = asyncio.create_task(self._metadata.get(want, answer.fields, plan.total))
        chunks, size = [prefix], len(prefix)
        try:
            while not asking.done() and size < self._metadata.piece_size_bytes:
                data = await answer.read()
                if not data:
                    break
                chunks.append(data)
                size += len(data)
            return b"".join(chunks), await asking
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    async def _verified(
        self,
        channel: ResponseWriter,
        want: Want,
        answer: UpstreamAnswer,
        plan: PassPlan,
        prefix: bytes,
        metadata: Metadata,
    ) -> None:
        """Each piece once it is right, the last one of a whole once the whole is. UpstreamError where it is wrong."""
        span = BodySpan(plan.start, plan.stop, plan.total)
        begun = Begun(answer, plan.position, prefix)
        body = self._gated.body(want, metadata, span, begun=begun, ask=self._same_again(want, answer, plan))
        try:
            data = await body.read()
            await channel.start(plan.head)
            while data:
                await channel.write(data)
                data = await body.read()
        except (BadPiece, WrongContent):
            self._metadata.forget(want, answer.fields, plan.total)
            raise
        finally:
            body.close()

    def _same_again(self, want: Want, answer: UpstreamAnswer, plan: PassPlan) -> Ask | None:
        """How to ask for more of the same generation; None where parts of two answers must not be put together."""
        validators, date = validators_of(answer.fields), answer.fields.value("Date")
        total = plan.total
        if total is None or not combinable(validators, date, want.target.service.lifetime == "immutable"):
            return None
        expected = ExpectedGeneration(total, validators)

        async def ask(start: int, stop: int, avoid: frozenset[str]) -> Opened:
            return await self._asker.ask_same(want, expected, date, start, stop, avoid)

        return ask

    async def _stream(
        self, channel: ResponseWriter, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes
    ) -> None:
        skip = plan.start - plan.position
        left = None if plan.stop is None else plan.stop - plan.start
        data = prefix or await answer.read()
        while data:
            self._meter.upstream_bytes(want.target.service.name, answer.source_class, len(data))
            kept = data[skip:] if left is None else data[skip : skip + left]
            skip = max(0, skip - len(data))
            await channel.write(kept)
            if left is not None:
                left -= len(kept)
                if not left:
                    return
            data = await answer.read()
        if left:
            raise TruncatedBody("source ended the body early", source=answer.source)


def _identity(answer: UpstreamAnswer) -> bool:
    """Whether the body is the content itself: digests say nothing of its codings."""
    return (answer.fields.value("Content-Encoding") or "identity").strip(" \t").lower() == "identity"
