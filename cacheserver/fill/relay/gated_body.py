"""Bytes that go from a source straight to a client, though they can be verified: piece by piece, right or not at all.

Owns: taking a body through a ``PieceGate``, blame for what is wrong, going on at another source of the same generation.
Must not write to clients or store anything.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from cacheserver.core.cache.sources import candidates
from cacheserver.core.errors import BadAnswer, BadPiece, TruncatedBody, UpstreamError, WrongContent
from cacheserver.core.integrity.piece_gate import PieceGate
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.asking import Ask, Asker, Opened, Want
from cacheserver.fill.metadata import Metadata
from cacheserver.ports import Meter, UpstreamAnswer


@dataclass(frozen=True, slots=True)
class BodySpan:
    """Bytes ``[start, stop)`` that the client gets of a content of ``total`` bytes; None: to an end not announced."""

    start: int
    stop: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class OpenBody:
    """An answer whose body holds the content's bytes from ``position`` on; ``prefix`` was read of it already."""

    answer: UpstreamAnswer
    position: int
    prefix: bytes = b""


class GatedBodies:
    """Makes gated bodies. ``executor`` hashes; ``hold_timeout_s``: longest silence before a piece is shown early."""

    def __init__(
        self, *, asker: Asker, meter: Meter, executor: Executor, hold_timeout_s: float, piece_size_bytes: int
    ) -> None:
        self.asker = asker
        self.meter = meter
        self.executor = executor
        self.hold_timeout_s = hold_timeout_s
        self.piece_size_bytes = piece_size_bytes

    def body(
        self,
        want: Want,
        metadata: Metadata,
        span: BodySpan,
        *,
        begun: OpenBody | None = None,
        ask: Ask | None = None,
        tries: int = 1,
    ) -> GatedBody:
        """A body of ``span``, from the answer in ``begun`` or the first that ``ask`` gives.

        ``ask``: how to ask for a span of the same generation; None where answers cannot be put together. ``tries``:
        how often in a row a source may break before the client hears of it.
        """
        whole = span.start == 0 and span.stop == span.total and metadata.trust is not Trust.ANCHORED
        claims = tuple(claim for claim in metadata.claims if claim.whole_digests) if whole else ()
        length = span.total if metadata.manifest is None else metadata.manifest.length_bytes
        gate = PieceGate(
            start=span.start - span.start % self.piece_size_bytes,
            length_bytes=length,
            piece_size_bytes=self.piece_size_bytes,
            manifest=metadata.manifest,
            claims=claims,
        )
        return GatedBody(self, gate, want, metadata.trust, span, begun=begun, ask=ask, tries=tries)


class GatedBody:
    """One body; read it to its end or to an error, and close it."""

    def __init__(
        self,
        room: GatedBodies,
        gate: PieceGate,
        want: Want,
        trust: Trust,
        span: BodySpan,
        *,
        begun: OpenBody | None,
        ask: Ask | None,
        tries: int,
    ) -> None:
        self._room = room
        self._gate = gate
        self._want = want
        self._trust = trust
        self._span = span
        self._answer = begun.answer if begun is not None else None
        self._position = begun.position if begun is not None else 0
        self._rest = begun.prefix if begun is not None else b""
        if self._rest and begun is not None:
            room.meter.upstream_bytes(want.target.service.name, begun.answer.source_class, len(self._rest))
        self._ask = ask
        self._tries = tries
        self._failures = 0
        self._tried: set[str] = set()
        """Sources that gave a bad piece."""
        self._sources: set[str] = set()
        self._shown = gate.start
        """Bytes before it have gone to the client, checked or, on a slow link, shown early."""
        self._waits_since_s = 0.0

    async def read(self) -> bytes:
        """The next bytes of the span; empty at its end. UpstreamError: the client must not be told that it is whole."""
        self._waits_since_s = asyncio.get_running_loop().time()
        while not self._gate.done and (self._span.stop is None or self._gate.start < self._span.stop):
            try:
                if not await self._collect():
                    data = self._gate.peek(self._shown)
                else:
                    data = await self._released()
            except (BadPiece, WrongContent) as exc:
                await self._elsewhere(exc)
                continue
            except UpstreamError as exc:
                await self._again(exc)
                continue
            kept = self._cut(data)
            if kept:
                return kept
        if self._span.stop is None and self._answer is not None and (self._rest or await self._answer.read()):
            raise BadAnswer("source sent more than the content has", source=self._answer.source)
        return b""

    def close(self) -> None:
        """Give the answer back."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    async def _collect(self) -> bool:
        """Until the piece in hand is full; False when it takes too long, and what there is should be shown."""
        gate = self._gate
        answer = await self._opened()
        while not gate.full or (
            self._span.total is None and gate.manifest is None and not gate.last and not self._rest
        ):
            data = self._rest or await answer.read()
            if not data and self._span.total is None and gate.manifest is None:
                gate.end()
                return True
            if not data:
                raise TruncatedBody("source ended the body early", source=answer.source)
            if data is not self._rest:
                self._room.meter.upstream_bytes(self._want.target.service.name, answer.source_class, len(data))
            skip = min(len(data), max(0, gate.offset - self._position))
            self._position += skip
            rest = gate.take(data[skip:])
            self._position += len(data) - skip - len(rest)
            self._rest = rest
            if not gate.full and gate.offset > max(self._shown, self._span.start) and self._too_slow():
                return False
        return True

    def _too_slow(self) -> bool:
        """Whether the reader has waited too long for this piece; the last one of a whole is never shown early."""
        if self._gate.claims and self._gate.last:
            return False
        waited_s = asyncio.get_running_loop().time() - self._waits_since_s
        return self._shown > self._gate.start or waited_s >= self._room.hold_timeout_s

    async def _opened(self) -> UpstreamAnswer:
        if self._answer is None:
            assert self._ask is not None, "a body without an answer can ask for one"
            self._take_up(await self._ask(self._gate.start, self._ask_stop, frozenset(self._tried)))
        assert self._answer is not None
        return self._answer

    def _take_up(self, opened: Opened) -> None:
        self._answer, self._position, self._rest = opened.answer, opened.accepted.start, b""

    @property
    def _ask_stop(self) -> int:
        assert self._span.stop is not None
        assert self._span.total is not None
        size = self._room.piece_size_bytes
        return min(-(-self._span.stop // size) * size, self._span.total)

    async def _released(self) -> bytes:
        """The full piece in hand, less what was shown of it early; when it is wrong its source is struck."""
        assert self._answer is not None
        gate, meter, source = self._gate, self._room.meter, self._answer.asked
        started, last = gate.start, gate.last
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._room.executor, gate.release)
        except BadPiece as exc:
            meter.verified(self._trust.word, "bad")
            self._room.asker.strike(source)
            raise BadPiece(exc.piece, source=self._answer.source) from exc
        except WrongContent as exc:
            meter.verified(_level(next(claim for claim in gate.claims if claim.anchor == exc.anchor)), "bad")
            if self._sources <= {source}:
                self._room.asker.strike(source)
            raise
        self._failures = 0
        self._sources.add(source)
        if gate.manifest is not None:
            meter.verified(self._trust.word, "ok")
        for claim in gate.claims if last else ():
            meter.verified(_level(claim), "ok")
        return data[max(0, self._shown - started) :]

    def _cut(self, data: bytes) -> bytes:
        """The part of ``data``, which begins at the last byte shown, that the client asked for."""
        at, self._shown = self._shown, self._shown + len(data)
        stop = self._span.stop
        return data[max(0, self._span.start - at) : None if stop is None else max(0, stop - at)]

    async def _elsewhere(self, error: BadPiece | WrongContent) -> None:
        """Go on from the piece's first byte at a source that has not been wrong yet, or raise ``error``."""
        assert self._answer is not None
        self._tried.add(self._answer.asked)
        self.close()
        others = {source.name for source in candidates(self._want.target)} - self._tried
        if isinstance(error, WrongContent) or self._ask is None or not others or self._shown > self._gate.start:
            raise error
        self._gate.drop()
        try:
            opened = await self._ask(self._gate.start, self._ask_stop, frozenset(self._tried))
        except UpstreamError as exc:
            raise error from exc
        self._take_up(opened)
        if opened.answer.asked in self._tried:
            raise error

    async def _again(self, error: UpstreamError) -> None:
        """Have the piece in hand sent again after a source broke, or raise ``error``."""
        self._failures += 1
        self.close()
        if not error.retryable or self._failures >= self._tries or self._ask is None or self._shown > self._gate.start:
            raise error
        self._gate.drop()


def _level(claim: Claim) -> str:
    return (Trust.ANCHORED if claim.authentic else Trust.SELF_CONSISTENT).word
