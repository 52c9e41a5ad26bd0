"""Answers that go through without being stored: status, fields and body of the origin, framed for the client.

Owns: relaying, giving a length to what has none where the client needs one, and having what passes verified where
something says what it must be (I1). Must not store anything; framing is ``web.answer.pass_plan``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from cacheserver.core.cache.generation import ExpectedGeneration, combinable, validators_of
from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.updating import dated
from cacheserver.core.errors import BadAnswer, BadPiece, NoMemory, OriginStatus, WrongContent
from cacheserver.core.http.codings import content_codings
from cacheserver.core.memory_budget import Lease, Use
from cacheserver.core.request.target import Form
from cacheserver.fill.asking import Ask, Want
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.fill.relay.body_buffer import BodyBuffer, Collected
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, Relay, RelayedBody
from cacheserver.ports import UpstreamAnswer
from cacheserver.web.answer.pass_plan import (
    CONDITIONS,
    PassPlan,
    Wider,
    asked_upstream,
    fields_upstream,
    needs_length,
    plan_pass,
    wider_range,
)
from cacheserver.web.answer.refusals import relays_status
from cacheserver.web.exchange import Exchange
from cacheserver.web.heads import Head, relayed_lines
from cacheserver.web.options import ServerOptions
from cacheserver.web.sending.response import ResponseWriter

_OF_THE_FILE = (200, 206, 304)
"""What may go to clients of cache-host form below 400: they take any other for the file itself, or for a fault here."""


@dataclass(slots=True, kw_only=True)
class Passing:
    """Relays answers to clients."""

    options: ServerOptions
    relay: Relay
    metadata: PassMetadata
    via: str
    buffer: BodyBuffer
    first_byte_s: float

    def reconfigure(self, options: ServerOptions) -> None:
        """Use changed options from now on; what is said of contents may have changed with them."""
        self.metadata.clear()
        self.options = options

    async def through(self, want: Want, exchange: Exchange) -> None:
        """Ask the origin what the client asked and relay the answer. UpstreamError before the head."""
        method = exchange.method
        by_pieces = method == "GET" and self.metadata.expects_manifest(want.target)
        wider = wider_range(want.fields.last("Range"), self.metadata.piece_size_bytes) if by_pieces else None
        extra = fields_upstream(want, method, by_pieces=by_pieces, wider=wider)
        asked = asked_upstream(extra) if method == "GET" else None
        if asked is None:
            answer = await self.relay.asker.send(want, method=method, extra=extra)
        else:
            conditions = tuple(line for line in extra if line[0] != "Range")
            answer, asked = await self.relay.asker.ask(want, asked, conditions=conditions)
        await self.pass_on(want, answer, exchange, wider=None if asked is not None and asked.whole else wider)

    async def pass_on(
        self, want: Want, answer: UpstreamAnswer, exchange: Exchange, *, prefix: bytes = b"", wider: Wider | None = None
    ) -> None:
        """Send an open answer on; ``prefix`` was read of its body already, ``wider`` replaced the client's range."""
        method, channel = exchange.method, exchange.channel
        lease = self.buffer.budget.lease(Use.COLLECTED, want.client)
        lease.grow(len(prefix))
        try:
            self._refuse_status(answer, want)
            self._refuse_contradiction(want, answer, wider)
            fields = dated(answer.fields, answer.response_time_s)
            lines = relayed_lines(fields, form=want.target.form, via=self.via, cache_status=exchange.cache_status)
            joinable = self._joinable(want, answer)
            plan = plan_pass(answer, want, method, lines, wider=wider, joinable=joinable)
            if method == "HEAD" or answer.status in (204, 304):
                await channel.start(plan.head)
                return
            if plan.head.length_bytes is None and needs_length(want, answer.status):
                lease.close()
                body = await self._buffered(want, answer, prefix)
                prefix, lease = body.data, body.lease
                if body.complete:
                    plan = plan_pass(answer, want, method, lines, wider=wider, collected=len(prefix))
            await self._send(channel, want, answer, plan, prefix)
            await channel.finish()
        finally:
            answer.close()
            lease.close()

    async def answered(self, want: Want, answered: Answered, exchange: Exchange) -> None:
        """Give a client the origin's small refusal, or a 502 that names it (protocol of cache-host form)."""
        channel = exchange.channel
        self._refuse_status(answered, want)
        lines = relayed_lines(answered.fields, form=want.target.form, via=self.via, cache_status=exchange.cache_status)
        await channel.start(Head(answered.status, lines, len(answered.body)))
        await channel.write(answered.body)
        await channel.finish()

    def _refuse_status(self, answer: UpstreamAnswer | Answered, want: Want) -> None:
        status, form = answer.status, want.target.form
        odd = (status < 400 and status not in _OF_THE_FILE) or (status == 416 and "Range" not in want.fields)
        useless = form is Form.CACHE_HOST and odd
        if useless or not relays_status(
            status, form, cache_host_errors=self.options.cache_host_errors, host_errors=self.options.host_errors
        ):
            raise OriginStatus(answer.status, answer.fields, source=answer.source)

    def _refuse_contradiction(self, want: Want, answer: UpstreamAnswer, wider: Wider | None) -> None:
        if answer.status == 304 and not any(name in want.fields for name in CONDITIONS[1:]):
            raise BadAnswer("304 to a request without conditions", source=answer.source)
        if "Range" not in want.fields:
            return
        if "Accept-Encoding" not in want.fields and content_codings(answer.fields):
            raise BadAnswer("content coding was not asked for", source=answer.source)
        if answer.status == 206 and wider is None and self.metadata.expects_manifest(want.target):
            raise BadAnswer("partial answer to a request without Range", source=answer.source)

    async def _buffered(self, want: Want, answer: UpstreamAnswer, prefix: bytes) -> Collected:
        """The body of an answer without a length; what there is of a long one, where the client may get all of it."""
        body = await self.buffer.collect(answer, want.client, limit_s=self.first_byte_s, prefix=prefix)
        if not body.complete and want.target.form is Form.CACHE_HOST:
            body.lease.close()
            raise BadAnswer("origin names no length, and the answer is too long to collect", source=answer.source)
        return body

    # -- bodies ---------------------------------------------------------------------------------------------------

    async def _send(
        self, channel: ResponseWriter, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes
    ) -> None:
        """Head and body: verified where anything says what the content must be, else as it comes.

        UpstreamError where it is wrong, before the head where it is known by then.
        """
        with self.buffer.budget.lease(Use.HELD_BACK, want.client) as lease:
            body = await self._body(want, answer, plan, prefix, lease)
            try:
                _make_room(lease, body.holds_back_bytes, answer)
                checked = await body.read() if body.verified else b""
                await channel.start(plan.head)
                await channel.write(checked)
                while data := await body.read():
                    await channel.write(data)
            except (BadPiece, WrongContent):
                self.metadata.forget(want, answer.fields, plan.total)
                raise
            finally:
                body.close()

    async def _body(
        self, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes, lease: Lease
    ) -> RelayedBody:
        metadata = NOTHING
        expected = self.metadata.expects_manifest(want.target)
        if plan.whole or (expected and plan.head.status in (200, 206)):
            _make_room(lease, self.metadata.piece_size_bytes if expected else 0, answer)
            prefix, metadata = await self._meanwhile(want, answer, plan, prefix)
            metadata.refuse_blocked(self.relay.meter, want.target.object_id)
        stated = plan.whole or metadata.manifest is not None
        return RelayedBody(
            self.relay,
            want,
            metadata if stated else NOTHING,
            BodySpan(plan.start, plan.stop, plan.total),
            opened=OpenBody(answer, plan.position, prefix, plan.ends),
            ask=self._same_again(want, answer, plan),
            by_now=(lambda known: self.metadata.by_now(known, want, answer, plan.total)) if stated else None,
        )

    async def _meanwhile(
        self, want: Want, answer: UpstreamAnswer, plan: PassPlan, prefix: bytes
    ) -> tuple[bytes, Metadata]:
        """The content's metadata, and what was read of the body while it came: at most about a piece.

        Where no manifest is expected only names and fields are looked at: nothing is read, which could take its time.
        """
        if not self.metadata.expects_manifest(want.target):
            return prefix, await self.metadata.get(want, answer, plan.total)
        asking = asyncio.create_task(self.metadata.get(want, answer, plan.total))
        chunks, size = [prefix], len(prefix)
        try:
            while not asking.done() and size < self.metadata.piece_size_bytes:
                data = await answer.read()
                if not data:
                    break
                chunks.append(data)
                size += len(data)
            return b"".join(chunks), await asking
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    def _same_again(self, want: Want, answer: UpstreamAnswer, plan: PassPlan) -> Ask | None:
        """How to ask for more of the same generation; None where parts of two answers must not be put together."""
        if plan.total is None or not self._joinable(want, answer):
            return None
        expected = ExpectedGeneration(plan.total, validators_of(answer.fields))
        return partial(self.relay.asker.ask_same, want, expected, answer.fields.value("Date"))

    def _joinable(self, want: Want, answer: UpstreamAnswer) -> bool:
        immutable = want.target.service.lifetime == "immutable"
        return combinable(validators_of(answer.fields), answer.fields.value("Date"), immutable)


def _make_room(lease: Lease, needed_bytes: int, answer: UpstreamAnswer) -> None:
    """Have a lease hold so much, and none where nothing is held back. NoMemory."""
    if not needed_bytes:
        lease.close()
    elif not lease.grow(max(0, needed_bytes - lease.held_bytes)):
        raise NoMemory("no room in memory to compare the content before it goes out", source=answer.source)
