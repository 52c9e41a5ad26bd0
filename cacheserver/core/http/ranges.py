"""Byte ranges of requests and answers (RFC 9110 §14).

Owns: the grammar of ``Range`` and ``Content-Range``, and the choice of the byte spans that answer a request. Must not
know where bytes come from. Inside, spans are half-open ``(start, stop)``; the inclusive positions of the wire exist
only in the two parsers and the two formatters.

A request with several ``Range`` lines is ambiguous; the caller picks one line (Delivery Optimization's last one) and
hands over that line, never the joined value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cacheserver.core.http.field_rules import is_token

MAX_SPECS = 1000
"""Most range specs that are looked at in one field; a longer list is an attack (RFC 9110 §17.15)."""

MERGE_GAP_BYTES = 128
"""Spans closer than this are sent as one: a multipart head between them would cost more (RFC 9110 §15.3.7.2)."""

_OWS = " \t"
_UNIT = re.compile(r"[^=\s,;/]*")
_INT_SPEC = re.compile(r"([0-9]+)[ \t]*-[ \t]*([0-9]*)")
_SUFFIX_SPEC = re.compile(r"-[ \t]*([0-9]+)")
_MOST = 10**18
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_UNSATISFIED = re.compile(r"\*/([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class IntSpec:
    """``first-last`` with inclusive positions; ``last`` None means to the end."""

    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class SuffixSpec:
    """``-length``: the last ``length`` bytes."""

    length: int


Spec = IntSpec | SuffixSpec


@dataclass(frozen=True, slots=True)
class NoRange:
    """No Range field, or one in a unit other than bytes, which must be ignored (RFC 9110 §14.2)."""


@dataclass(frozen=True, slots=True)
class BadRange:
    """The unit is bytes, but what follows is not a valid range set."""


@dataclass(frozen=True, slots=True)
class RangeSpecs:
    """One or more valid specs in the order of the request."""

    specs: tuple[Spec, ...]


RangeField = NoRange | BadRange | RangeSpecs


@dataclass(frozen=True, slots=True)
class Whole:
    """Answer 200 with the whole object."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Answer 206 with these disjoint, non-empty, half-open spans; several of them as multipart."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Answer 416."""


Selection = Whole | Parts | Unsatisfiable


@dataclass(frozen=True, slots=True)
class ContentRange:
    """``bytes first-last/total`` as a half-open span in bytes; ``total`` None where the sender wrote ``*``."""

    start: int
    stop: int
    total: int | None


@dataclass(frozen=True, slots=True)
class UnsatisfiedRange:
    """``bytes */total``; ``total`` is None only for senders that do not know it."""

    total: int | None


def parse_range(field: str | None) -> RangeField:
    """Read one Range line (RFC 9110 §14.1, §14.2); never raises.

    The unit is compared without case, empty list members are allowed. Blanks around ``=`` and ``-``, which the grammar
    does not have, are read too: a 416 would end the client's use of this node.
    """
    if field is None:
        return NoRange()
    text = field.strip(_OWS)
    unit = _UNIT.match(text)
    if unit is None or not is_token(unit[0]) or unit[0].lower() != "bytes":
        return NoRange()
    rest = text[unit.end() :].lstrip(_OWS)
    if not rest.startswith("="):
        return BadRange()
    members = [member for part in rest[1:].split(",") if (member := part.strip(_OWS))]
    if not 0 < len(members) <= MAX_SPECS:
        return BadRange()
    specs: list[Spec] = []
    for member in members:
        spec = _parse_spec(member)
        if spec is None:
            return BadRange()
        specs.append(spec)
    return RangeSpecs(tuple(specs))


def _parse_spec(member: str) -> Spec | None:
    if (suffix := _SUFFIX_SPEC.fullmatch(member)) is not None:
        return SuffixSpec(_position(suffix[1]))
    found = _INT_SPEC.fullmatch(member)
    if found is None:
        return None
    first = _position(found[1])
    last = _position(found[2]) if found[2] else None
    return None if last is not None and last < first else IntSpec(first, last)


def _position(digits: str) -> int:
    """A number of any length; what no object reaches is one number."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else _MOST


def select(field: RangeField, length_bytes: int, *, max_parts: int = 100) -> Selection:
    """The spans of an object of ``length_bytes`` that answer ``field`` (RFC 9110 §14.2, §15.3.7, §15.5.17).

    Spans that overlap, touch or lie less than ``MERGE_GAP_BYTES`` apart become one, which stands where the earliest
    of its specs stood. The spans together never hold more bytes than the object.
    """
    if isinstance(field, NoRange):
        return Whole()
    if isinstance(field, BadRange):
        return Unsatisfiable()
    spans = [span for spec in field.specs if (span := _resolve(spec, length_bytes)) is not None]
    ranges = _merge(spans)
    return Parts(ranges) if 0 < len(ranges) <= max_parts else Unsatisfiable()


def _resolve(spec: Spec, length_bytes: int) -> tuple[int, int] | None:
    if isinstance(spec, SuffixSpec):
        start, stop = max(0, length_bytes - spec.length), length_bytes
    else:
        start = spec.first
        stop = length_bytes if spec.last is None else min(spec.last + 1, length_bytes)
    return (start, stop) if start < stop else None


def _merge(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int, int]] = []
    for start, stop, order in sorted((start, stop, order) for order, (start, stop) in enumerate(spans)):
        if merged and start - merged[-1][2] < MERGE_GAP_BYTES:
            first_order, first_start, last_stop = merged[-1]
            merged[-1] = (min(first_order, order), first_start, max(last_stop, stop))
        else:
            merged.append((order, start, stop))
    return tuple((start, stop) for _, start, stop in sorted(merged))


def first_demand(field: RangeField) -> tuple[int, int | None] | None:
    """The first span that a request wants of an object whose length is not known yet.

    ``(start, stop)`` half-open, ``stop`` None for "to the end". None where nothing can be named before the length is
    known: the first spec is a suffix, or the field is bad (its 416 needs the length too).
    """
    if isinstance(field, NoRange):
        return (0, None)
    if isinstance(field, BadRange):
        return None
    spec = field.specs[0]
    if isinstance(spec, SuffixSpec):
        return None
    return (spec.first, None if spec.last is None else spec.last + 1)


def format_content_range(start: int, stop: int, total: int) -> str:
    """``bytes first-last/total`` for a half-open, non-empty span (RFC 9110 §14.4). Raises ValueError otherwise."""
    if not 0 <= start < stop <= total:
        raise ValueError(f"no span of an object of {total} bytes: [{start}, {stop})")
    return f"bytes {start}-{stop - 1}/{total}"


def format_unsatisfied(total: int) -> str:
    """``bytes */total`` for a 416 (RFC 9110 §14.4)."""
    return f"bytes */{total}"


def parse_content_range(value: str) -> ContentRange | UnsatisfiedRange | None:
    """Read a Content-Range value (RFC 9110 §14.4); None where it is malformed or contradicts itself."""
    unit, space, rest = value.strip(_OWS).partition(" ")
    if not space or unit.lower() != "bytes":
        return None
    if (unsatisfied := _UNSATISFIED.fullmatch(rest)) is not None:
        return UnsatisfiedRange(int(unsatisfied[1]))
    found = _CONTENT_RANGE.fullmatch(rest)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last + 1, total)
