"""Answers that go through without being stored: status, fields and body of the origin, framed for the client.

Owns: relaying, slicing a whole answer for a client that asked for a range, and giving a length to what has none where
the client needs one. Must not store anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.errors import BadAnswer, OriginStatus, TruncatedBody
from cacheserver.core.fields import Fields
from cacheserver.core.ranges import (
    BadRange,
    IntSpec,
    NoRange,
    Parts,
    RangeSpecs,
    format_content_range,
    parse_content_range,
    parse_range,
    select,
)
from cacheserver.core.ranges import ContentRange as Span
from cacheserver.core.target import Form
from cacheserver.fill.asking import Asker, Want
from cacheserver.fill.opening import Answered
from cacheserver.fill.spool import Spool
from cacheserver.ports import Meter, UpstreamAnswer
from cacheserver.web.channel import Channel
from cacheserver.web.heads import Head, relayed_lines
from cacheserver.web.options import ServerOptions
from cacheserver.web.refusals import relays_status

_REDIRECTS = (300, 301, 302, 303, 307, 308)
_CONDITIONS = ("If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


@dataclass(frozen=True, slots=True)
class _Body:
    """What of the origin's body goes out: skip, then ``length`` bytes (None: all there is)."""

    skip: int
    length: int | None


class Passing:
    """Relays answers to clients."""

    def __init__(self, *, asker: Asker, meter: Meter, via: str, spool: Spool, first_byte_s: float) -> None:
        self._asker = asker
        self._meter = meter
        self._via = via
        self._spool = spool
        self._first_byte_s = first_byte_s

    async def through(
        self, channel: Channel, want: Want, *, method: str, options: ServerOptions, cache_status: str
    ) -> None:
        """Ask the origin what the client asked and relay the answer. UpstreamError before the head."""
        answer = await self._asker.send(want, method=method, extra=_own_fields(want, method))
        await self.relay(channel, want, answer, method=method, options=options, cache_status=cache_status)

    async def relay(
        self,
        channel: Channel,
        want: Want,
        answer: UpstreamAnswer,
        *,
        method: str,
        options: ServerOptions,
        cache_status: str,
        prefix: bytes = b"",
    ) -> None:
        """Send an open answer on; ``prefix`` are bytes of its body that were read already."""
        try:
            self._refuse_status(answer.status, want, options, answer.source)
            if answer.status == 304 and not any(name in want.fields for name in _CONDITIONS[1:]):
                raise BadAnswer("304 to a request without conditions", source=answer.source)
            if "Range" in want.fields and "Accept-Encoding" not in want.fields and "Content-Encoding" in answer.fields:
                raise BadAnswer("content coding was not asked for", source=answer.source)
            head, body = _framed(
                answer, want, method, relayed_lines(answer.fields, via=self._via, cache_status=cache_status)
            )
            if method == "HEAD" or answer.status in (204, 304):
                await channel.start(head)
                return
            if head.length_bytes is None and _needs_length(want, answer.status):
                prefix = await self._spooled(answer, prefix)
                head, body = _framed(answer, want, method, head.lines, len(prefix))
            await channel.start(head)
            await self._stream(channel, want, answer, body, prefix)
            await channel.finish()
        finally:
            answer.close()

    async def answered(
        self, channel: Channel, want: Want, answered: Answered, *, options: ServerOptions, cache_status: str
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

    async def _spooled(self, answer: UpstreamAnswer, prefix: bytes) -> bytes:
        body = await self._spool.collect(answer, limit_s=self._first_byte_s, prefix=prefix)
        if not body.complete:
            raise BadAnswer("origin names no length, and the answer is too long to collect", source=answer.source)
        return body.data

    async def _stream(self, channel: Channel, want: Want, answer: UpstreamAnswer, body: _Body, prefix: bytes) -> None:
        skip, left = body.skip, body.length
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


def _own_fields(want: Want, method: str) -> tuple[tuple[str, str], ...]:
    """Range and conditions of the client: its own lines for own services, a rebuilt Range for shipped ones (I10)."""
    line = want.fields.last("Range") if method == "GET" else None
    if want.target.service.forwards_everything:
        ranged = () if line is None else (("Range", line),)
        names = _CONDITIONS if line is not None else _CONDITIONS[1:]
        return (*ranged, *((name, value) for name in names if (value := want.fields.value(name)) is not None))
    field = parse_range(line)
    if isinstance(field, RangeSpecs) and len(field.specs) == 1 and isinstance(field.specs[0], IntSpec):
        spec = field.specs[0]
        return (("Range", f"bytes={spec.first}-{'' if spec.last is None else spec.last}"),)
    return ()


def _framed(
    answer: UpstreamAnswer, want: Want, method: str, lines: tuple[tuple[str, str], ...], collected: int | None = None
) -> tuple[Head, _Body]:
    """Head and part of the body: a whole answer is cut to the range that the client asked for, and the reverse."""
    length = _length(answer.fields) if collected is None else collected
    field = parse_range(want.fields.last("Range")) if method == "GET" else NoRange()
    if answer.status == 206 and isinstance(field, NoRange):
        span = parse_content_range(answer.fields.first("Content-Range") or "")
        if isinstance(span, Span) and (span.start, span.stop) == (0, span.total):
            whole = tuple(line for line in lines if line[0].lower() != "content-range")
            return Head(200, whole, span.total), _Body(0, span.total)
        raise BadAnswer("partial answer to a request without Range", source=answer.source)
    unasked = answer.status == 200 and not isinstance(field, NoRange | BadRange)
    if unasked and length is not None and "If-Range" not in want.fields:
        selection = select(field, length)
        if isinstance(selection, Parts) and len(selection.ranges) == 1:
            start, stop = selection.ranges[0]
            ranged = (*lines, ("Content-Range", format_content_range(start, stop, length)))
            return Head(206, ranged, stop - start), _Body(start, stop - start)
    return Head(answer.status, lines, length), _Body(0, length)


def _needs_length(want: Want, status: int) -> bool:
    """Whether a body without a length has to be collected: for caches' clients always, for others to cut a range."""
    ranged = "Range" in want.fields and "If-Range" not in want.fields
    return want.target.form is Form.CACHE_HOST or (status == 200 and ranged)


def _length(fields: Fields) -> int | None:
    line = fields.first("Content-Length")
    if line is None or "Transfer-Encoding" in fields:
        return None
    if len(fields.lines("Content-Length")) > 1 or not (line.isascii() and line.isdigit()) or len(line) > 18:
        raise BadAnswer("Content-Length is not one number")
    return int(line)
