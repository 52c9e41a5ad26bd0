"""The check of an origin's answer before a byte of it is stored.

Owns: whether status and fields are what was asked for, complete and unambiguous, and of the expected generation
(I5). Must not read the body; its exact length is checked by whoever reads it, against the span accepted here. Whatever
contradicts the request is a fault of the source and raised as such, never repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cacheserver.core.errors import BadAnswer, BadContentRange, GenerationChanged, OriginStatus
from cacheserver.core.http.conditional import (
    is_entity_tag,
    last_modified_is_strong,
    strong_entity_tag,
    weakly_equal,
)
from cacheserver.core.http.field_rules import is_field_value, list_members
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import parse_http_date
from cacheserver.core.http.ranges import ContentRange, parse_content_range
from cacheserver.core.http.validators import Validators

_LENGTH = re.compile(r"[0-9]{1,18}")
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Asked:
    """The half-open span that was asked for; ``stop`` None for to the end; ``whole``: no Range field was sent."""

    start: int
    stop: int | None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedGeneration:
    """The generation that the bytes must belong to (I5)."""

    length_bytes: int
    validators: Validators


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
    was asked; a 206 must be exactly the span asked for.

    Raises OriginStatus for any other status, BadAnswer for an answer that contradicts the request or itself,
    GenerationChanged for another length or validator than ``expected``.
    """
    if status not in (200, 206):
        raise OriginStatus(status, fields)
    _check_codings(fields, accepted_codings)
    length = _body_length(fields)
    validators = validators_of(fields)
    if status == 206:
        span = _partial_span(asked, fields, length)
        answer = AcceptedAnswer(span.start, span.stop, span.total, validators)
    else:
        answer = AcceptedAnswer(0, length, length, validators)
    if expected is not None:
        _check_generation(expected, answer, immutable=immutable)
    return answer


def validators_of(fields: Fields) -> Validators:
    """The validators of an answer. A malformed or repeated entity tag, or a repeated date, is no validator."""
    etags, dates = fields.lines("ETag"), fields.lines("Last-Modified")
    etag = etags[0].strip(" \t") if len(etags) == 1 else ""
    date = dates[0].strip(" \t") if len(dates) == 1 else ""
    return Validators(
        etag=etag if is_entity_tag(etag) else None,
        last_modified=date if date and is_field_value(date) else None,
    )


def combinable(validators: Validators, date: str | None, immutable: bool) -> bool:
    """Whether parts of several answers with these validators may be put together (RFC 9111 §3.4, RFC 9110 §15.3.7.3).

    True for a strong entity tag, for a Last-Modified that the answer's Date makes strong, and for immutable services.
    """
    return immutable or resume_condition(validators, date) is not None


def resume_condition(validators: Validators, date: str | None) -> str | None:
    """The If-Range value for a request that goes on with this generation: a strong validator, or None (§13.1.5)."""
    tag = strong_entity_tag(validators)
    if tag is None and last_modified_is_strong(validators, date):
        return validators.last_modified
    return tag


def _check_codings(fields: Fields, accepted_codings: frozenset[str]) -> None:
    for coding in list_members(fields.value("Content-Encoding") or ""):
        if coding.lower() != "identity" and coding.lower() not in accepted_codings:
            raise BadAnswer("content coding was not asked for", got=_shown(coding))
    transfer = fields.value("Transfer-Encoding")
    if transfer is not None and transfer.strip(" \t").lower() != "chunked":
        raise BadAnswer("transfer coding is not understood", expected="chunked", got=_shown(transfer))


def _body_length(fields: Fields) -> int | None:
    """Content-Length, or None for a chunked or close-delimited body; one valid line or none (RFC 9112 §6.3)."""
    lines = fields.lines("Content-Length")
    if not lines:
        return None
    if "Transfer-Encoding" in fields:
        raise BadAnswer("both Content-Length and Transfer-Encoding")
    text = lines[0].strip(" \t")
    if len(lines) > 1 or _LENGTH.fullmatch(text) is None:
        raise BadAnswer("Content-Length is not one number", got=_shown(", ".join(lines)))
    return int(text)


def _partial_span(asked: Asked, fields: Fields, length: int | None) -> ContentRange:
    if asked.whole:
        raise BadAnswer("206 to a request without Range")
    media_type = (fields.value("Content-Type") or "").strip(" \t").lower()
    if media_type.startswith("multipart/byteranges"):
        raise BadContentRange("multipart answer to a request for one range")
    lines = fields.lines("Content-Range")
    span = parse_content_range(lines[0]) if len(lines) == 1 else None
    if not isinstance(span, ContentRange) or span.total is None:
        raise BadContentRange("Content-Range is not one range with a total", got=_shown(", ".join(lines)))
    stop = span.total if asked.stop is None else min(asked.stop, span.total)
    if (span.start, span.stop) != (asked.start, stop):
        expected = f"[{asked.start}, {stop})"
        raise BadContentRange("another range than asked", expected=expected, got=f"[{span.start}, {span.stop})")
    if length is not None and length != span.stop - span.start:
        raise BadAnswer("Content-Length contradicts Content-Range", expected=span.stop - span.start, got=length)
    return span


def _check_generation(expected: ExpectedGeneration, answer: AcceptedAnswer, *, immutable: bool) -> None:
    if answer.total is not None and answer.total != expected.length_bytes:
        raise GenerationChanged(f"the object now has {answer.total} bytes instead of {expected.length_bytes}")
    if not _same_generation(expected.validators, answer.validators, immutable=immutable):
        raise GenerationChanged("the object's validator has changed")


def _same_generation(known: Validators, got: Validators, *, immutable: bool) -> bool:
    """Compare by the best validator that both sides have; where one side lacks it, only immutable services agree."""
    known_tag, got_tag = strong_entity_tag(known), strong_entity_tag(got)
    if known_tag is not None and got_tag is not None:
        return known_tag == got_tag
    if known.last_modified is not None and got.last_modified is not None:
        return _same_date(known.last_modified, got.last_modified)
    if known.etag is not None and got.etag is not None:
        return weakly_equal(known.etag, got.etag) if immutable else known.etag == got.etag
    return immutable or known == got


def _same_date(one: str, other: str) -> bool:
    one_s = parse_http_date(one)
    return one == other or (one_s is not None and one_s == parse_http_date(other))


def _shown(text: str) -> str:
    """An origin's text for a one-line message: ASCII only, escaped, short."""
    return ascii(text[:_SHOWN_CHARS])
