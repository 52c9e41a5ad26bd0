"""What a pass asks for and how the origin's answer is framed for the client: pure plans of ``web.answer.passing``.

Owns: the range that goes up, wider than the client's where pieces are to be verified, and which part of the answer goes
out under which head. Must not read bodies or send anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.cache.answer import Asked, body_length, content_range, is_byteranges, whole_length
from cacheserver.core.cache.generation import validators_of
from cacheserver.core.errors import BadAnswer
from cacheserver.core.http.conditional import is_entity_tag
from cacheserver.core.http.field_rules import OF_THE_MESSAGE
from cacheserver.core.http.ranges import (
    BadRange,
    ContentRange,
    IntSpec,
    NoRange,
    Parts,
    RangeField,
    RangeSpecs,
    Unsatisfiable,
    format_content_range,
    format_unsatisfied,
    parse_range,
    select,
)
from cacheserver.core.request.target import Form
from cacheserver.fill.asking import Want
from cacheserver.ports import UpstreamAnswer
from cacheserver.web.heads import Head, Lines, without_representation

CONDITIONS = ("If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_OF_THE_MESSAGE = ("content-range", *OF_THE_MESSAGE)
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
    ``position`` on, up to ``ends`` where it says so. None: to the end of the answer, or not told."""

    head: Head
    position: int
    start: int
    stop: int | None
    total: int | None
    ends: int | None = None

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


def asked_upstream(extra: Lines) -> Asked | None:
    """What a request with these field lines asks for; None where that is not one range with a beginning."""
    line = next((value for name, value in extra if name == "Range"), None)
    if line is None:
        return Asked(0, None, whole=True)
    one = wider_range(line)
    return None if one is None else Asked(one.start, one.stop)


def plan_pass(
    answer: UpstreamAnswer,
    want: Want,
    method: str,
    lines: Lines,
    *,
    wider: Wider | None = None,
    collected: int | None = None,
    joinable: bool = False,
) -> PassPlan:
    """Head and part of the body: an answer that holds more than the client asked for is cut to that.

    ``wider``: what was asked for in place of the client's range. ``collected``: the length of a body without one.
    ``joinable``: what the answer lacks of the client's range can be asked for. BadAnswer where the answer contradicts
    itself or the client's range.
    """
    if method == "HEAD":
        return _head_only(answer, lines)
    try:
        return _planned(answer, want, lines, wider, collected, joinable)
    except BadAnswer as exc:
        exc.source = exc.source or answer.source
        raise


def _planned(
    answer: UpstreamAnswer, want: Want, lines: Lines, wider: Wider | None, collected: int | None, joinable: bool
) -> PassPlan:
    length = body_length(answer.fields) if collected is None else collected
    field = parse_range(want.fields.last("Range"))
    if answer.status == 206:
        return _of_part(answer, want, field, lines, wider, length, joinable)
    if answer.status == 200:
        length = whole_length(200, answer.fields, length)
        if not isinstance(field, NoRange | BadRange) and length is not None and "If-Range" not in want.fields:
            selection = select(field, length)
            if isinstance(selection, Unsatisfiable):
                return _unsatisfied(lines, length)
            if isinstance(selection, Parts) and len(selection.ranges) == 1:
                return _cut(lines, selection.ranges[0], position=0, total=length, ends=length)
    return PassPlan(Head(answer.status, lines, length), 0, 0, length, length, length)


def _head_only(answer: UpstreamAnswer, lines: Lines) -> PassPlan:
    if answer.status == 206:
        raise BadAnswer("partial answer to a request without Range", source=answer.source)
    length = None if "Transfer-Encoding" in answer.fields else body_length(answer.fields)
    return PassPlan(Head(answer.status, lines, length), 0, 0, length, length)


def _of_part(
    answer: UpstreamAnswer,
    want: Want,
    field: RangeField,
    lines: Lines,
    wider: Wider | None,
    length: int | None,
    joinable: bool,
) -> PassPlan:
    """The plan of a 206, judged by all that it says about itself."""
    span = content_range(answer.fields)
    one = isinstance(field, RangeSpecs) and len(field.specs) == 1
    if wider is None and not one and is_byteranges(answer.fields) and not isinstance(field, NoRange):
        return PassPlan(Head(206, lines, length), 0, 0, length, None)
    if span is None or is_byteranges(answer.fields):
        if wider is None and "Range" in want.fields and isinstance(field, NoRange | BadRange):
            return PassPlan(Head(206, lines, length), 0, 0, length, None)  # in a unit that only the origin knows
        raise BadAnswer("Content-Range is not one range")
    if length not in (None, span.stop - span.start):
        raise BadAnswer("Content-Length contradicts Content-Range", expected=span.stop - span.start, got=length)
    _refuse_other_generation(want, answer)
    whole = (span.start, span.stop) == (0, span.total)
    if isinstance(field, NoRange) and wider is None:
        if not whole:
            raise BadAnswer("partial answer to a request without Range")
        kept = tuple(line for line in lines if line[0].lower() != "content-range")
        return PassPlan(Head(200, kept, span.total), 0, 0, span.total, span.total, span.total)
    if span.total is None:
        return _without_total(want, field, lines, span)
    selection = select(field, span.total)
    if not isinstance(selection, Parts):
        if wider is None:
            raise BadAnswer("206 to a range that is not there")
        return _unsatisfied(lines, span.total)
    return _of_known_part(selection.ranges, lines, span, joinable)


def _of_known_part(ranges: tuple[tuple[int, int], ...], lines: Lines, span: ContentRange, joinable: bool) -> PassPlan:
    """The plan of a 206 with a total to a request for ``ranges``."""
    assert span.total is not None
    start, stop = next((part for part in ranges if span.start <= part[0] < span.stop), (0, 0))
    if start == stop or (len(ranges) == 1 and span.start > start):
        raise BadAnswer("another range than asked", expected=str(ranges), got=f"[{span.start}, {span.stop})")
    if stop > span.stop and not joinable:
        stop = span.stop  # it says itself that it has less
    return _cut(lines, (start, stop), position=span.start, total=span.total, ends=span.stop)


def _without_total(want: Want, field: RangeField, lines: Lines, span: ContentRange) -> PassPlan:
    """A 206 that does not know the content's length: as it comes, for clients that need none."""
    first = field.specs[0] if isinstance(field, RangeSpecs) and len(field.specs) == 1 else None
    if want.target.form is Form.CACHE_HOST or (isinstance(first, IntSpec) and first.first != span.start):
        raise BadAnswer("another range than asked, or one without a total")
    length = span.stop - span.start
    return PassPlan(Head(206, lines, length), span.start, span.start, span.stop, None, span.stop)


def _refuse_other_generation(want: Want, answer: UpstreamAnswer) -> None:
    """BadAnswer for a 206 that breaks the client's If-Range."""
    condition, tag = (want.fields.value("If-Range") or "").strip(" \t"), validators_of(answer.fields).etag
    if is_entity_tag(condition) and tag is not None and tag != condition:
        raise BadAnswer("part of another generation than the client asked for")


def _unsatisfied(lines: Lines, total: int) -> PassPlan:
    unsatisfied = (*_about_all(without_representation(lines)), ("Content-Range", format_unsatisfied(total)))
    return PassPlan(Head(416, unsatisfied, 0), 0, 0, 0, total)


def _cut(lines: Lines, part: tuple[int, int], *, position: int, total: int, ends: int) -> PassPlan:
    start, stop = part
    same = (position, ends) == part
    kept = tuple(line for line in lines if line[0].lower() != "content-range") if same else _about_all(lines)
    ranged = (*kept, ("Content-Range", format_content_range(start, stop, total)))
    return PassPlan(Head(206, ranged, stop - start), position, start, stop, total, ends)


def _about_all(lines: Lines) -> Lines:
    return tuple(line for line in lines if line[0].lower() not in _OF_THE_MESSAGE)


def needs_length(want: Want, status: int) -> bool:
    """Whether a body without a length has to be collected: for caches' clients always, for others to cut a range."""
    ranged = "Range" in want.fields and "If-Range" not in want.fields
    return want.target.form is Form.CACHE_HOST or (status == 200 and ranged)
