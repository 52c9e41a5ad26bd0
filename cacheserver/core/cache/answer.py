"""The check of an origin's answer before a byte of it is used: an answer is judged by all that it says about itself.

Owns: whether status and fields are what was asked for, complete and unambiguous, and of the expected generation
(I5); which answers make nothing of a Range. Must not read the body; its exact length is checked by whoever reads it,
against the span accepted here. What contradicts the request or itself is a fault of the source, never repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cacheserver.core.cache.generation import ExpectedGeneration, check_generation, validators_of
from cacheserver.core.cache.origin_status import refuses_ranges
from cacheserver.core.errors import BadAnswer, BadContentRange, OriginStatus
from cacheserver.core.http.codings import content_codings
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.ranges import ContentRange, UnsatisfiedRange, parse_content_range
from cacheserver.core.http.validators import Validators

_LENGTH = re.compile(r"[0-9]{1,18}")
_SHOWN_CHARS = 80
_LEAST_SHARE = 64
"""A 206 that holds less than this share of what was asked would make hundreds of requests of one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The half-open span that was asked for; ``stop`` None for to the end; ``whole``: no Range field was sent."""

    start: int
    stop: int | None
    whole: bool = False

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The Range that asks for it; none for the whole."""
        last = "" if self.stop is None else self.stop - 1
        return () if self.whole else (("Range", f"bytes={self.start}-{last}"),)

    @property
    def span(self) -> tuple[int, int]:
        """The bytes that it asks for; none where their end is not known."""
        return (0, 0) if self.stop is None else (self.start, self.stop)


WHOLE = Asked(0, None, whole=True)


@dataclass(frozen=True, slots=True)
class AcceptedAnswer:
    """The half-open span that the body holds; ``stop`` is None only where ``total`` is."""

    start: int
    stop: int | None
    total: int | None
    validators: Validators


def check_answer(
    *,
    asked: Asked,
    status: int,
    fields: Fields,
    expected: ExpectedGeneration | None,
    accepted_codings: frozenset[str],
    immutable: bool,
) -> AcceptedAnswer:
    """Accept or refuse one answer by its head.

    ``accepted_codings`` holds lower-case content codings besides identity. A 200 is the whole body from 0, whatever
    was asked. A 206 begins with the first byte asked for; it may end earlier or later.

    Raises OriginStatus for any other status, BadContentRange where the answer makes nothing of the Range, BadAnswer
    for one that contradicts the request or itself, GenerationChanged for another length or validator than ``expected``.
    """
    if status == 304:
        raise BadAnswer("304 to a request without conditions")
    if status not in (200, 206):
        raise OriginStatus(status, fields)
    for coding in content_codings(fields):
        if coding not in accepted_codings:
            raise BadAnswer("content coding was not asked for", got=_shown(coding))
    length = body_length(fields)
    total = None if expected is None else expected.length_bytes
    reason = range_refusal(asked, status, fields, total=total)
    if reason is not None:
        raise BadContentRange(reason, got=_shown(", ".join(fields.lines("Content-Range"))))
    validators = validators_of(fields)
    if status == 200 or asked.whole:
        answer = AcceptedAnswer(0, whole_length(status, fields, length), length, validators)
    else:
        span = content_range(fields)
        assert span is not None, "a 206 without a usable range has a reason"
        answer = AcceptedAnswer(span.start, span.stop, total if span.total is None else span.total, validators)
    if expected is not None:
        check_generation(expected, answer.total, validators, immutable=immutable)
    return answer


def range_refusal(asked: Asked, status: int, fields: Fields, *, total: int | None) -> str | None:
    """Why an answer makes nothing of the Range that was sent; None where it does, or where none was sent.

    The same is then to be asked without Range: what the node asks for its own sake must not cost a client its file.
    ``total``: the content's length where it is known, which makes a 416 wrong.
    """
    if asked.whole:
        return None
    if status == 416:
        told = parse_content_range(fields.first("Content-Range") or "")
        behind = isinstance(told, UnsatisfiedRange) and told.total and told.total <= asked.start
        return None if behind and total is None else "416 to a range that may exist"
    if status == 200:
        return _part_in_200(asked, fields, total)
    if status == 206:
        return _unusable_206(asked, fields, total)
    return "the status refuses the range" if refuses_ranges(status) else None


def contradicts_part(status: int, whole: Fields, part: Fields) -> bool:
    """Whether a 200 has another length than the unusable part of the same source said, so that neither is believed."""
    span = content_range(part)
    told = None if span is None else span.total
    return status == 200 and told is not None and whole.first("Content-Length") not in (None, str(told))


def body_length(fields: Fields) -> int | None:
    """Content-Length, or None for a chunked or close-delimited body; one valid line or none (RFC 9112 §6.3).

    BadAnswer for a framing that contradicts itself.
    """
    transfer, lines = fields.value("Transfer-Encoding"), fields.lines("Content-Length")
    if transfer is not None and transfer.strip(" \t").lower() != "chunked":
        raise BadAnswer("transfer coding is not understood", expected="chunked", got=_shown(transfer))
    if not lines:
        return None
    if transfer is not None:
        raise BadAnswer("both Content-Length and Transfer-Encoding")
    text = lines[0].strip(" \t")
    if len(lines) > 1 or _LENGTH.fullmatch(text) is None:
        raise BadAnswer("Content-Length is not one number", got=_shown(", ".join(lines)))
    return int(text)


def whole_length(status: int, fields: Fields, length: int | None) -> int | None:
    """The length of an answer that is to be the whole content. BadAnswer where it says that it is a part."""
    if is_byteranges(fields):
        raise BadAnswer("parts instead of the content")
    lines = fields.lines("Content-Range")
    if status == 200 and not lines:
        return length
    span = content_range(fields)
    if span is None or (span.start, span.stop) != (0, span.total) or length not in (None, span.stop):
        raise BadAnswer("a part instead of the whole", expected=length, got=_shown(", ".join(lines)))
    return length


def _part_in_200(asked: Asked, fields: Fields, total: int | None) -> str | None:
    """Why a 200 is probably only the part that was asked for."""
    length = body_length(fields)
    try:
        whole_length(200, fields, length)
    except BadAnswer:
        return "200 with a part"
    if length is not None and length != total and asked.stop is not None and length == asked.stop - asked.start:
        return "200 with the length of the range"
    return None


def _unusable_206(asked: Asked, fields: Fields, total: int | None) -> str | None:
    length, span = body_length(fields), content_range(fields)
    if is_byteranges(fields):
        return "multipart answer to a request for one range"
    if span is None:
        return "Content-Range is not one range"
    known = total if span.total is None else span.total
    if known is None or span.stop > known:
        return "Content-Range has no total"
    if span.start != asked.start:
        return "another range than asked"
    if length not in (None, span.stop - span.start):
        return "Content-Length contradicts Content-Range"
    stop = known if asked.stop is None else min(asked.stop, known)
    if span.stop < stop and (span.stop - span.start) * _LEAST_SHARE < stop - span.start:
        return "much less than asked"
    return None


def content_range(fields: Fields) -> ContentRange | None:
    """The range that an answer says it holds; None where it says none, several or a malformed one."""
    lines = fields.lines("Content-Range")
    span = parse_content_range(lines[0]) if len(lines) == 1 else None
    return span if isinstance(span, ContentRange) else None


def is_byteranges(fields: Fields) -> bool:
    """Whether the body holds parts with heads of their own (RFC 9110 §14.6)."""
    return (fields.value("Content-Type") or "").strip(" \t").lower().startswith("multipart/byteranges")


def _shown(text: str) -> str:
    """An origin's text for a one-line message: ASCII only, escaped, short."""
    return ascii(text[:_SHOWN_CHARS])
