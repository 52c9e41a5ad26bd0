"""Bytes that go from a source straight to a client, past the store: as they come, or each piece once it is right.

Owns: taking a body through a ``PieceGate`` where its content can be verified, blame for what is wrong, going on at the
same or another source of the same generation. Must not write to clients or store anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from cacheserver.concurrency.awake import awake_s
from cacheserver.core.cache.sources import candidates
from cacheserver.core.errors import BadAnswer, BadPiece, TruncatedBody, UpstreamError, WrongContent
from cacheserver.core.integrity.blame import Evidence, piece_evidence, whole_evidence
from cacheserver.core.integrity.piece_gate import PieceGate
from cacheserver.core.integrity.release import Facts, Reason, Said, Verdict, decide
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.asking import Ask, Asker, Want
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.refused_content import note_refused
from cacheserver.fill.relay.retry import Retry, after
from cacheserver.ports import Meter, UpstreamAnswer

ByNow = Callable[[Metadata], Awaitable[Metadata]]
_MOST_HELD_BYTES = 1 << 24
"""Larger pieces of a manifest are compared once all have gone by, where all do."""


@dataclass(frozen=True, slots=True)
class BodySpan:
    """Bytes ``[start, stop)`` that the client gets of a content of ``total`` bytes; None: to an end not announced."""

    start: int
    stop: int | None
    total: int | None

    @property
    def whole(self) -> bool:
        """Whether that is all of it."""
        return self.start == 0 and self.stop == self.total


@dataclass(frozen=True, slots=True)
class OpenBody:
    """An answer whose body holds the content's bytes from ``position`` on; ``prefix`` was read of it already.

    ``stop``: where it has said that its bytes end, None where it has not.
    """

    answer: UpstreamAnswer
    position: int
    prefix: bytes = b""
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Relay:
    """What relayed bodies share. ``executor`` hashes their pieces."""

    asker: Asker
    meter: Meter
    executor: Executor
    hold_timeout_s: float
    """Longest silence before a piece is shown early."""
    piece_size_bytes: int

    def gate(self, metadata: Metadata, span: BodySpan) -> PieceGate | None:
        """What verifies a body; None where nothing says what it must be."""
        size = self.piece_size_bytes
        if metadata.manifest is not None:  # a gate waits for as many of ours as one of its pieces has
            size = min(max(size, metadata.manifest.piece_size_bytes), _MOST_HELD_BYTES)
        claims, manifest = metadata.of_whole(size) if span.whole else (), metadata.by_pieces(size)
        if manifest is None and not claims:
            return None
        return PieceGate(
            start=span.start - span.start % size,
            length_bytes=span.total if manifest is None else manifest.length_bytes,
            piece_size_bytes=size,
            manifest=manifest,
            claims=claims,
        )


class RelayedBody:
    """One body of ``span``; read it to its end or to an error, and close it.

    It comes from the answer in ``opened`` or the first that ``ask`` gives. It is verified where ``metadata`` has a
    manifest, or a digest of a whole that all goes to the client. ``ask`` asks for a span of the same generation; None
    where answers cannot be put together. ``tries``: how often in a row a source may break before the reader fails.
    ``by_now`` gives what is said of the content by the time it ends; it has its end only where that is nothing new.
    """

    def __init__(
        self,
        relay: Relay,
        want: Want,
        metadata: Metadata,
        span: BodySpan,
        *,
        opened: OpenBody | None = None,
        ask: Ask | None = None,
        tries: int = 1,
        by_now: ByNow | None = None,
    ) -> None:
        self._relay = relay
        self._gate = gate = relay.gate(metadata, span)
        self._want = want
        self._metadata = metadata
        self._by_now = by_now
        self._span = span
        self._ask = ask
        self._tries = tries
        self._answer: UpstreamAnswer | None = None
        self._position = 0
        """Offset of the next byte that the answer gives, ``_rest`` included."""
        self._rest = b""
        self._answer_stop: int | None = None
        """Where the answer has said that its bytes end."""
        if opened is not None and not self._begins_too_late(opened):
            self._answer_stop = opened.stop
            self._answer, self._position, self._rest = opened.answer, opened.position, opened.prefix
            if self._rest:
                self._count(opened.answer, self._rest)
        self._failures = 0
        self._tried: set[str] = set()
        """Sources that gave a bad piece."""
        self._sources: set[str] = set()
        self._shown = span.start if gate is None else gate.start
        """Bytes before it have gone to the client, checked or, on a slow link, shown early."""
        self._ended = False
        """Whether a body of no announced length has come to its end."""
        self._waits_since_s = 0.0

    @property
    def verified(self) -> bool:
        """Whether what is read has been checked, so that a failure can come before the first byte."""
        return self._gate is not None

    @property
    def holds_back_bytes(self) -> int:
        """How much of it is in memory at the most before any of it may go out."""
        return 0 if self._gate is None else self._gate.piece_size_bytes

    async def read(self) -> bytes:
        """The next bytes of the span; empty at its end. UpstreamError: the client must not be told that it is whole."""
        self._waits_since_s = awake_s()
        while not self._is_done():
            try:
                data = await (self._arrived() if self._gate is None else self._checked(self._gate))
            except UpstreamError as exc:
                await self._resume(exc)
                continue
            kept = self._cut(data)
            if self._is_done():
                await self._hold_against_now()
            if kept:
                return kept
        await self._hold_against_now()
        verified_to_its_end = self._gate is not None and self._span.stop is None
        if verified_to_its_end and self._answer is not None and (self._rest or await self._answer.read()):
            raise BadAnswer("source sent more than the content has", source=self._answer.source)
        return b""

    async def _hold_against_now(self) -> None:
        """Withhold the end where something was said meanwhile that the bytes were not held against."""
        if self._by_now is None:
            return
        known = self._metadata
        self._metadata = now = await self._by_now(known)
        now.refuse_blocked(self._relay.meter, self._want.target.object_id)
        anchor = now.goes_beyond(known, self._relay.piece_size_bytes, whole=self._span.whole)
        rule = decide(Facts(whole=Said.UNCOMPARED if anchor else Said.NOTHING, gone=True, last=True))
        if rule.verdict is Verdict.REFUSE:
            note_refused(self._relay.meter, rule.reason, object_id=self._want.target.object_id)
            raise WrongContent(anchor)

    def close(self) -> None:
        """Give the answer back."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _is_done(self) -> bool:
        ended = self._ended if self._gate is None else self._gate.done
        if self._gate is not None and self._span.total == 0:
            return ended
        return ended or (self._span.stop is not None and self._next >= self._span.stop)

    @property
    def _next(self) -> int:
        """Offset from which on another answer has to go on."""
        return self._shown if self._gate is None else self._gate.start

    def _begins_too_late(self, opened: OpenBody) -> bool:
        """Whether an answer has too little to be compared, and was closed: the pieces of the manifest are larger.

        BadAnswer where no other can be asked for.
        """
        gate = self._gate
        if gate is None:
            return False
        reaches = gate.piece_size_bytes <= self._relay.piece_size_bytes or self._span.stop == self._span.total
        if reaches and opened.position <= gate.start:
            return False
        opened.answer.close()
        if self._ask is None:
            raise BadAnswer("the answer has too little of a piece to compare it", source=opened.answer.source)
        return True

    def _cut(self, data: bytes) -> bytes:
        """The part of ``data``, which begins at the last byte shown, that the client asked for."""
        at, self._shown = self._shown, self._shown + len(data)
        stop = self._span.stop
        return data[max(0, self._span.start - at) : None if stop is None else max(0, stop - at)]

    # -- bytes of an answer ---------------------------------------------------------------------------------------

    async def _arrived(self) -> bytes:
        """The next bytes as they come."""
        return await self._chunk(await self._opened(), self._shown)

    async def _chunk(self, answer: UpstreamAnswer, offset: int) -> bytes:
        """The next bytes of an answer, less those before ``offset``. TruncatedBody where it must not end yet."""
        data, self._rest = self._rest, b""
        if not data:
            data = await answer.read()
            if data:
                self._count(answer, data)
            elif self._position == self._answer_stop and self._ask is not None:
                self.close()  # it had less than was asked for: the rest is asked for
            elif self._span.total is not None or (self._gate is not None and self._gate.manifest is not None):
                raise TruncatedBody("source ended the body early", source=answer.source)
            else:
                self._ended = True
        skip = max(0, offset - self._position)
        self._position += len(data)
        return data[skip:]

    def _count(self, answer: UpstreamAnswer, data: bytes) -> None:
        self._relay.meter.upstream_bytes(self._want.target.service.name, answer.source_class, len(data))

    async def _opened(self) -> UpstreamAnswer:
        if self._answer is None:
            assert self._ask is not None, "a body without an answer can ask for one"
            first = self._shown if self._gate is None else self._gate.offset
            opened = await self._ask(first, self._ask_stop, frozenset(self._tried))
            self._answer, self._position, self._rest = opened.answer, opened.accepted.start, b""
            self._answer_stop = opened.accepted.stop
        return self._answer

    @property
    def _ask_stop(self) -> int:
        """The end of what is asked for: whole pieces where they are checked."""
        assert self._span.stop is not None
        assert self._span.total is not None
        if self._gate is None:
            return self._span.stop
        size = self._gate.piece_size_bytes
        return min(-(-self._span.stop // size) * size, self._span.total)

    # -- pieces ---------------------------------------------------------------------------------------------------

    async def _checked(self, gate: PieceGate) -> bytes:
        """The next piece once it is right, or what there is of one that takes too long."""
        answer = await self._opened()
        waits_for_end = self._span.total is None and gate.manifest is None
        while not gate.full or (waits_for_end and not gate.last and not self._rest):
            answer = await self._opened()
            data = await self._chunk(answer, gate.offset)
            if self._ended:
                gate.end()
                break
            self._rest = gate.take(data)
            self._position -= len(self._rest)
            if not gate.full and gate.offset > max(self._shown, self._span.start) and self._too_slow(gate):
                peeked = gate.peek(self._shown)
                stop = self._span.stop  # an answer is not complete before its bytes are right
                return peeked if stop is None else peeked[: max(0, stop - 1 - self._shown)]
        return await self._released(gate, answer)

    def _too_slow(self, gate: PieceGate) -> bool:
        """Whether the reader has waited too long for this piece; the last one of a whole is never shown early."""
        if gate.claims and gate.last:
            return False
        waited_s = awake_s() - self._waits_since_s
        return self._shown > gate.start or waited_s >= self._relay.hold_timeout_s

    async def _released(self, gate: PieceGate, answer: UpstreamAnswer) -> bytes:
        """The full piece in hand, less what was shown of it early; when it is wrong its source is struck."""
        meter, source = self._relay.meter, answer.asked
        started, last = gate.start, gate.last
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._relay.executor, gate.release)
        except BadPiece as exc:
            meter.verified(self._metadata.trust.word, "bad")
            rule = decide(Facts(piece=Said.CONTRADICTS, shown=self._shown > started))
            meter.content_refused(rule.reason.value)
            self._blame(source, piece_evidence(self._metadata.trust, {source}))
            raise BadPiece(exc.piece, source=answer.source) from exc
        except WrongContent as exc:
            claim = next(claim for claim in gate.claims if claim.anchor == exc.anchor)
            meter.verified(_level(claim), "bad")
            note_refused(meter, Reason.WRONG_CONTENT, object_id=self._want.target.object_id)
            self._blame(source, whole_evidence(claim, self._sources | {source}))
            raise
        self._failures = 0
        self._sources.add(source)
        if gate.manifest is not None:
            meter.verified(self._metadata.trust.word, "ok")
        for claim in gate.claims if last else ():
            meter.verified(_level(claim), "ok")
        return data[max(0, self._shown - started) :]

    def _blame(self, source: str, evidence: Evidence) -> None:
        self._relay.asker.blame(source, evidence, self._want.target.object_id)

    # -- after a failure ------------------------------------------------------------------------------------------

    async def _resume(self, error: UpstreamError) -> None:
        """Have the next bytes sent again where that may help, or raise ``error``."""
        if not isinstance(error, BadPiece | WrongContent):
            self._failures += 1
        elif self._answer is not None:
            self._tried.add(self._answer.asked)
        if self._answer is not None:
            self._relay.asker.faulted(self._answer.asked, error)
        self.close()
        retry = after(
            error,
            resumable=self._ask is not None and self._shown <= self._next,
            sources_left=any(source.name not in self._tried for source in candidates(self._want.target)),
            tries_left=self._tries - self._failures,
        )
        if retry is Retry.GIVE_UP:
            raise error
        if self._gate is not None:
            self._gate.drop()
        if retry is Retry.ELSEWHERE:
            try:
                answer = await self._opened()
            except UpstreamError as exc:
                raise error from exc
            if answer.asked in self._tried:
                raise error


def _level(claim: Claim) -> str:
    return (Trust.ANCHORED if claim.authentic else Trust.SELF_CONSISTENT).word
