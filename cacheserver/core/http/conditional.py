"""Preconditions of a request against a stored representation (RFC 9110 §13).

Owns: entity-tag grammar and comparison, the order of evaluation, If-Range, and when a date is a strong validator.
Must not choose ranges or build answers.
"""

from __future__ import annotations

import re
from enum import Enum

from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import parse_http_date
from cacheserver.core.http.validators import Validators

STRONG_DATE_GAP_S = 60
"""Date must be this much after Last-Modified for the latter to be strong.

RFC 9110 §8.8.2.2 asks for one second, and for a difference that makes clock problems unlikely where the two may come
from different clocks, which a cache cannot know. 60 s is what RFC 7232 §2.2.2 named for that.
"""

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ENTITY_TAG = re.compile(_TAG)
# One list member: an entity tag up to the next comma, or anything else, which matches nothing.
_MEMBER = re.compile(rf"[ \t]*(?:({_TAG})[ \t]*(?=,|\Z)|[^,]*),?")


class Verdict(Enum):
    """What the preconditions say."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not-modified"
    """Answer 304."""
    PRECONDITION_FAILED = "precondition-failed"
    """Answer 412."""


def is_entity_tag(value: str) -> bool:
    """Whether ``value`` is a well-formed entity tag, weak or strong (RFC 9110 §8.8.3)."""
    return _ENTITY_TAG.fullmatch(value) is not None


def strong_entity_tag(validators: Validators) -> str | None:
    """The entity tag when it is well-formed and strong."""
    tag = validators.strong_etag
    return tag if tag is not None and is_entity_tag(tag) else None


def weakly_equal(one: str, other: str) -> bool:
    """Weak comparison of two entity tags (RFC 9110 §8.8.3.2)."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def last_modified_is_strong(validators: Validators, date: str | None) -> bool:
    """Whether Last-Modified is a strong validator, given the Date of the same answer (RFC 9110 §8.8.2.2)."""
    if validators.last_modified is None or date is None:
        return False
    modified_s, date_s = parse_http_date(validators.last_modified), parse_http_date(date)
    return modified_s is not None and date_s is not None and date_s - modified_s >= STRONG_DATE_GAP_S


def evaluate(request: Fields, validators: Validators, *, method: str, now_s: float) -> Verdict:
    """Evaluate the preconditions in the order of RFC 9110 §13.2.2 against an existing representation.

    Malformed dates are ignored; malformed entity tags match nothing. If-Range is not part of it
    (``if_range_holds``). ``now_s`` (Unix seconds) is used for two-digit years only.
    """
    reads = method in ("GET", "HEAD")
    if (if_match := request.value("If-Match")) is not None:
        if not _any_matches(if_match, strong_entity_tag(validators), strong=True):
            return Verdict.PRECONDITION_FAILED
    elif _modified_since(request.value("If-Unmodified-Since"), validators, now_s) is True:
        return Verdict.PRECONDITION_FAILED
    if (if_none_match := request.value("If-None-Match")) is not None:
        if _any_matches(if_none_match, validators.etag, strong=False):
            return Verdict.NOT_MODIFIED if reads else Verdict.PRECONDITION_FAILED
    elif reads and _modified_since(request.value("If-Modified-Since"), validators, now_s) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def if_range_holds(field: str | None, validators: Validators, *, date: str | None) -> bool:
    """Whether the Range field may be applied (RFC 9110 §13.1.5); False means: ignore it, send the whole object.

    ``field`` is If-Range, True where absent. ``date`` is the Date of the stored answer, needed to know whether its
    Last-Modified is strong. Entity tags are compared strongly, dates exactly.
    """
    if field is None:
        return True
    wanted = field.strip(" \t")
    if is_entity_tag(wanted):
        return wanted == strong_entity_tag(validators)
    return wanted == validators.last_modified and last_modified_is_strong(validators, date)


def _any_matches(field: str, tag: str | None, *, strong: bool) -> bool:
    """Whether ``*`` or a listed tag matches; ``*`` counts only alone."""
    if field.strip(" \t") == "*":
        return True
    if tag is None or not is_entity_tag(tag):
        return False
    listed = (found[1] for found in _MEMBER.finditer(field) if found[1] is not None)
    return any(member == tag if strong else weakly_equal(member, tag) for member in listed)


def _modified_since(field: str | None, validators: Validators, now_s: float) -> bool | None:
    """Whether the representation is newer than the field's date; None where there is nothing to compare."""
    if field is None or validators.last_modified is None:
        return None
    since_s = parse_http_date(field, now_s=now_s)
    modified_s = parse_http_date(validators.last_modified, now_s=now_s)
    return None if since_s is None or modified_s is None else modified_s > since_s
