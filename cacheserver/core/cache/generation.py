"""Generations of a content (I5): which answers speak of the same bytes, and whether parts of several may be joined.

Owns: the comparison of validators. Must not judge an answer's framing (``core.cache.answer``). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.http.conditional import (
    is_entity_tag,
    last_modified_is_strong,
    strong_entity_tag,
    weakly_equal,
)
from cacheserver.core.http.field_rules import is_field_value
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import parse_http_date
from cacheserver.core.http.validators import Validators


@dataclass(frozen=True, slots=True)
class ExpectedGeneration:
    """The generation that the bytes must belong to (I5)."""

    length_bytes: int
    validators: Validators
    proven: bool = False
    """Whether a manifest or a digest proves each byte, so that a tag alone makes no other generation."""


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


def check_generation(
    expected: ExpectedGeneration, total: int | None, validators: Validators, *, immutable: bool
) -> None:
    """Raise GenerationChanged for another length, or validators of other bytes.

    Its ``retagged`` is set where the entity tag alone differs: two edges of one origin may give the same bytes
    different tags, so that asking again may reach the edge that gave the first one.
    """
    if total is not None and total != expected.length_bytes:
        raise GenerationChanged(f"the object now has {total} bytes instead of {expected.length_bytes}")
    known = expected.validators
    if _same_generation(known, validators, immutable=immutable):
        return
    retagged = None not in (known.etag, validators.etag) and known.etag != validators.etag
    if retagged and expected.proven and _same_date(known.last_modified, validators.last_modified):
        return
    raise GenerationChanged("the object's validator has changed", retagged=retagged and total is not None)


def confirms(known: Validators, update: Validators) -> bool:
    """Whether a 304 with the validators ``update`` is of the stored answer with ``known`` ones (RFC 9111 §4.3.4).

    One without validators is of what was asked about.
    """
    if known.etag is not None and update.etag is not None:
        strong = strong_entity_tag(known), strong_entity_tag(update)
        return strong[0] == strong[1] if None not in strong else weakly_equal(known.etag, update.etag)
    if known.last_modified is not None and update.last_modified is not None:
        return _same_date(known.last_modified, update.last_modified)
    return True


def is_other(known: Validators, length_bytes: int, update: Validators, total: int | None) -> bool:
    """Whether a whole answer shows that its content is another one than what is stored: by length or validators."""
    return total not in (None, length_bytes) or not confirms(known, update)


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


def _same_date(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    one_s = parse_http_date(one)
    return one == other or (one_s is not None and one_s == parse_http_date(other))
