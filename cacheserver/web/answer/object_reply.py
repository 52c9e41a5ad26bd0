"""What to send for a stored object: preconditions, ranges, and the head that goes with them (RFC 9110 §13–15).

Owns: the pure plan of one answer. Must not read the object or send anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.conditional import Verdict, evaluate, if_range_holds
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.multipart import plan_multipart
from cacheserver.core.http.ranges import (
    NoRange,
    Parts,
    RangeField,
    RangeSpecs,
    Unsatisfiable,
    first_demand,
    format_content_range,
    format_unsatisfied,
    parse_range,
    select,
)
from cacheserver.web.heads import Head, Lines, without_message_digests, without_representation


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Bytes to send first, then bytes ``[start, stop)`` of the object."""

    prefix: bytes
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ObjectReply:
    """Head, parts of the object, closing bytes. ``whole``: the client reads on to the end of the object."""

    head: Head
    parts: tuple[BodyPart, ...] = ()
    closing: bytes = b""
    whole: bool = False

    def with_lines(self, lines: Lines) -> ObjectReply:
        """The same answer with ``lines`` in front of its own; a bodiless status takes no representation metadata."""
        if self.head.status in (304, 412, 416):
            lines = without_representation(lines)
        if self.head.status != 200:
            lines = without_message_digests(lines)
        own = {name.lower() for name, _value in self.head.lines}
        kept = tuple(line for line in lines if line[0].lower() not in own)
        return replace(self, head=replace(self.head, lines=(*kept, *self.head.lines)))


def asked_range(request: Fields, representation: Representation | None, *, method: str) -> RangeField:
    """The Range that counts for a GET whose If-Range holds: the last line, since resuming clients pile them up."""
    if method != "GET":
        return NoRange()
    if representation is not None and not if_range_holds(
        request.value("If-Range"), representation.validators, date=representation.fields.value("Date")
    ):
        return NoRange()
    return parse_range(request.last("Range"))


def opening_demand(field: RangeField) -> tuple[int, int | None] | None:
    """What to open a cold object with: of several ranges any may lie beyond its end, so that its beginning is asked."""
    several = isinstance(field, RangeSpecs) and len(field.specs) > 1
    return (0, 1) if several else first_demand(field)


def plan_object_reply(
    representation: Representation, request: Fields, *, method: str, now_s: float, boundary: str
) -> ObjectReply:
    """The answer to one GET or HEAD, but for the field lines that every answer from this object carries."""
    verdict = evaluate(request, representation.validators, method=method, now_s=now_s)
    if verdict is Verdict.NOT_MODIFIED:
        return ObjectReply(Head(304, (), None))
    if verdict is Verdict.PRECONDITION_FAILED:
        return ObjectReply(Head(412, (), 0))
    length = representation.length_bytes
    selection = select(asked_range(request, representation, method=method), length)
    if isinstance(selection, Unsatisfiable):
        return ObjectReply(Head(416, (("Content-Range", format_unsatisfied(length)),), 0))
    if isinstance(selection, Parts):
        return _partial(selection, representation, boundary)
    parts = (BodyPart(b"", 0, length),) if length and method == "GET" else ()
    return ObjectReply(Head(200, (), length), parts, whole=True)


def _partial(selection: Parts, representation: Representation, boundary: str) -> ObjectReply:
    length = representation.length_bytes
    if len(selection.ranges) == 1:
        start, stop = selection.ranges[0]
        ranged = (("Content-Range", format_content_range(start, stop, length)),)
        return ObjectReply(Head(206, ranged, stop - start), (BodyPart(b"", start, stop),), whole=stop == length)
    plan = plan_multipart(
        selection.ranges, total=length, content_type=representation.fields.value("Content-Type"), boundary=boundary
    )
    multipart = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    parts = tuple(BodyPart(part.head, part.start, part.stop) for part in plan.parts)
    return ObjectReply(Head(206, (multipart,), plan.length_bytes), parts, plan.closing)
