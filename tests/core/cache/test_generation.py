"""Generations: which answers speak of the same bytes, and which of them may be put together."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.generation import (
    ExpectedGeneration,
    check_generation,
    combinable,
    confirms,
    resume_condition,
    validators_of,
)
from cacheserver.core.errors import GenerationChanged
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
SAME_DATE = "Sunday, 06-Nov-94 08:49:37 GMT"
LATER = "Mon, 07 Nov 1994 08:49:37 GMT"
NONE = Validators()
Line = tuple[str, str]


def etag(value: str) -> Line:
    return ("ETag", value)


def modified(value: str) -> Line:
    return ("Last-Modified", value)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([etag('"a"'), modified(MODIFIED)], Validators('"a"', MODIFIED)),
        ([etag(' W/"a" ')], Validators('W/"a"')),
        ([etag("unquoted")], NONE),
        ([etag('"a"'), etag('"b"')], NONE),
        ([modified(MODIFIED), modified(LATER)], NONE),
        ([modified("a\r\nb")], NONE),
        ([modified("")], NONE),
    ],
)
def test_malformed_or_repeated_validators_are_none(lines: list[Line], expected: Validators) -> None:
    assert validators_of(Fields(lines)) == expected


MINUTE_AFTER = "Sun, 06 Nov 1994 08:50:37 GMT"
LESS_THAN_A_MINUTE_AFTER = "Sun, 06 Nov 1994 08:50:36 GMT"


@pytest.mark.parametrize(
    ("validators", "date", "condition"),
    [
        (Validators('"a"', MODIFIED), None, '"a"'),
        (Validators('"a"', MODIFIED), MINUTE_AFTER, '"a"'),
        (Validators('W/"a"'), MINUTE_AFTER, None),
        (Validators('W/"a"', MODIFIED), MINUTE_AFTER, MODIFIED),
        (Validators("unquoted"), None, None),
        (Validators(None, MODIFIED), MINUTE_AFTER, MODIFIED),
        (Validators(None, MODIFIED), LESS_THAN_A_MINUTE_AFTER, None),
        (Validators(None, MODIFIED), None, None),
        (Validators(None, "garbage"), MINUTE_AFTER, None),
        (NONE, MINUTE_AFTER, None),
    ],
)
def test_only_strong_validators_join_parts(validators: Validators, date: str | None, condition: str | None) -> None:
    assert resume_condition(validators, date) == condition
    assert combinable(validators, date, immutable=False) is (condition is not None)
    assert combinable(validators, date, immutable=True)


@pytest.mark.parametrize(
    ("total", "got", "retagged"),
    [
        (30, Validators('"b"', MODIFIED), True),
        (30, Validators('"b"'), True),
        (30, Validators('"b"', LATER), True),
        (None, Validators('"b"'), False),
        (31, Validators('"b"', MODIFIED), False),
        (30, Validators(None, LATER), False),
    ],
)
def test_another_tag_alone_is_told_from_another_content(total: int | None, got: Validators, retagged: bool) -> None:
    with pytest.raises(GenerationChanged) as caught:
        check_generation(ExpectedGeneration(30, Validators('"a"', MODIFIED)), total, got, immutable=True)
    assert caught.value.retagged is retagged


@pytest.mark.parametrize(("date", "agrees"), [(MODIFIED, True), (SAME_DATE, True), (LATER, False), (None, False)])
def test_another_tag_is_no_other_content_where_its_bytes_are_proven(date: str | None, agrees: bool) -> None:
    expected = ExpectedGeneration(30, Validators('"a"', MODIFIED), proven=True)
    if agrees:
        check_generation(expected, 30, Validators('"b"', date), immutable=False)
    else:
        with pytest.raises(GenerationChanged):
            check_generation(expected, 30, Validators('"b"', date), immutable=False)


@pytest.mark.parametrize(
    ("known", "update", "same"),
    [
        (Validators('"a"'), Validators(), True),
        (Validators('"a"'), Validators('"a"', LATER), True),
        (Validators('"a"'), Validators('"b"'), False),
        (Validators('"a"'), Validators('W/"a"'), True),
        (Validators('W/"a"'), Validators('"a"'), True),
        (Validators('W/"a"'), Validators('W/"b"'), False),
        (Validators(None, MODIFIED), Validators(None, SAME_DATE), True),
        (Validators(None, MODIFIED), Validators(None, LATER), False),
        (Validators('"a"', MODIFIED), Validators(None, LATER), False),
        (Validators(None, MODIFIED), Validators('"b"'), True),
    ],
)
def test_a_304_of_another_generation_confirms_nothing(known: Validators, update: Validators, same: bool) -> None:
    assert confirms(known, update) is same
