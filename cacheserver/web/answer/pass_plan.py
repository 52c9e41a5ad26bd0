"""What a pass asks for and how the origin's answer is framed for the client: pure plans of ``web.answer.passing``.

Owns: the range that goes up, wider than the client's where pieces are to be verified, and which part of the answer goes
out under which head. Must not read bodies or send anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.errors import BadAnswer
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.ranges import (
    BadRange,
    ContentRange,
    IntSpec,
    NoRange,
    Parts,
    RangeField,
    RangeSpecs,
    format_content_range,
    format_unsatisfied,
    parse_content_range,
    parse_range,
    select,
)
from cacheserver.core.request.target import Form
from cacheserver.fill.asking import Want
from cacheserver.ports import UpstreamAnswer
from cacheserver.web.heads import Head, Lines, without_representation

CONDITIONS = ("If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_OF_THE_MESSAGE = ("content-range", "content-md5", "content-digest")
"""Fields that speak of the bytes in one message, not of those that are cut out of it."""


@dataclass(frozen=True, slots=True)
class Wider:
    """A client's range by whole pieces: bytes ``[start, stop)``; ``stop`` None: to the end."""

    start: int
    stop: int | None

    @property
    def line(self) -> tuple[str, str]:
        """The Range that asks for it."""
        return ("Range", f"bytes={self.start}-{'' if self.stop is None else self.stop - 1}")


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The head, and bytes ``[start, stop)`` of a content of ``total`` bytes, of which the answer holds those from
    ``position`` on. None: to the end of the answer, or not told."""

    head: Head
    position: int
    start: int
    stop: int | None
    total: int | None

    @property
    def whole(self) -> bool:
        """Whether the client gets everything."""
        return self.head.status == 200 and self.start == 0 and self.stop == self.total


def wider_range(line: str | None, unit_bytes: int = 1) -> Wider | None:
    """The single range with a beginning that a Range line asks for, by whole units; None for every other form."""
    field, size = parse_range(line), unit_bytes
    if not isinstance(field, RangeSpecs) or len(field.specs) != 1 or not isinstance(field.specs[0], IntSpec):
        return None
    spec = field.specs[0]
    return Wider(spec.first // size * size, None if spec.last is None else (spec.last // size + 1) * size)


def fields_upstream(want: Want, method: str, *, by_pieces: bool, wider: Wider | None) -> Lines:
    """Range and conditions of the client: its own lines for own services, a rebuilt Range for shipped ones (I10).

    ``by_pieces``: the content is verified, so that only ``wider`` is asked for, or everything.
    """
    line = want.fields.last("Range") if method == "GET" else None
    own = want.target.service.forwards_everything
    if own and not by_pieces:
        ranged: Lines = () if line is None else (("Range", line),)
    else:
        asked = wider if by_pieces else wider_range(line)
        ranged = () if asked is None else (asked.line,)
    if not own:
        return ranged
    names = CONDITIONS if ranged else CONDITIONS[1:]
    return (*ranged, *((name, value) for name in names if (value := want.fields.value(name)) is not None))


def plan_pass(
    answer: UpstreamAnswer,
    want: Want,
    method: str,
    lines: Lines,
    *,
    wider: Wider | None = None,
    collected: int | None = None,
) -> PassPlan:
    """Head and part of the body: an answer that holds more than the client asked for is cut to that. BadAnswer.

    ``wider``: what was asked for in place of the client's range. ``collected``: the length of a body without one.
    """
    length = _length(answer.fields) if collected is None else collected
    field = parse_range(want.fields.last("Range")) if method == "GET" else NoRange()
    if answer.status == 206 and wider is not None:
        return _cut_wider(answer, field, lines, wider, length)
    if answer.status == 206 and isinstance(field, NoRange):
        span = parse_content_range(answer.fields.first("Content-Range") or "")
        if isinstance(span, ContentRange) and (span.start, span.stop) == (0, span.total):
            whole = tuple(line for line in lines if line[0].lower() != "content-range")
            return PassPlan(Head(200, whole, span.total), 0, 0, span.total, span.total)
        raise BadAnswer("partial answer to a request without Range", source=answer.source)
    unasked = answer.status == 200 and not isinstance(field, NoRange | BadRange)
    if unasked and length is not None and "If-Range" not in want.fields:
        selection = select(field, length)
        if isinstance(selection, Parts) and len(selection.ranges) == 1:
            return _cut(lines, selection.ranges[0], position=0, total=length)
    return PassPlan(Head(answer.status, lines, length), 0, 0, length, length)


def _cut_wider(answer: UpstreamAnswer, field: RangeField, lines: Lines, wider: Wider, length: int | None) -> PassPlan:
    span = parse_content_range(answer.fields.first("Content-Range") or "")
    if not isinstance(span, ContentRange) or span.total is None:
        raise BadAnswer("Content-Range is not one range with a total", source=answer.source)
    stop = span.total if wider.stop is None else min(wider.stop, span.total)
    if (span.start, span.stop) != (wider.start, stop) or length not in (None, stop - span.start):
        raise BadAnswer("another range than asked", source=answer.source)
    selection = select(field, span.total)
    if not isinstance(selection, Parts):
        unsatisfied = (*_about_all(without_representation(lines)), ("Content-Range", format_unsatisfied(span.total)))
        return PassPlan(Head(416, unsatisfied, 0), 0, 0, 0, span.total)
    return _cut(lines, selection.ranges[0], position=span.start, total=span.total)


def _cut(lines: Lines, part: tuple[int, int], *, position: int, total: int) -> PassPlan:
    start, stop = part
    ranged = (*_about_all(lines), ("Content-Range", format_content_range(start, stop, total)))
    return PassPlan(Head(206, ranged, stop - start), position, start, stop, total)


def _about_all(lines: Lines) -> Lines:
    return tuple(line for line in lines if line[0].lower() not in _OF_THE_MESSAGE)


def needs_length(want: Want, status: int) -> bool:
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
