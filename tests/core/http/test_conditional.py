"""Preconditions: RFC 9110 §13 as tables."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.conditional import Verdict, evaluate, if_range_holds, is_entity_tag
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators

PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.PRECONDITION_FAILED
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
STRONG = Validators('"a,b"', MODIFIED)
WEAK = Validators('W/"w"', MODIFIED)
BARE = Validators()
INM, IM, IMS, IUS = "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"


def verdict(validators: Validators, *lines: tuple[str, str], method: str = "GET") -> Verdict:
    return evaluate(Fields(lines), validators, method=method, now_s=1_700_000_000.0)


@pytest.mark.parametrize(
    ("field", "validators", "expected"),
    [
        ('"a,b"', STRONG, NOT_MODIFIED),
        ('W/"a,b"', STRONG, NOT_MODIFIED),
        ('"x", "a,b"', STRONG, NOT_MODIFIED),
        (' , "x" ,\tW/"a,b" , ', STRONG, NOT_MODIFIED),
        ("*", STRONG, NOT_MODIFIED),
        ("*", BARE, NOT_MODIFIED),
        ('"w"', WEAK, NOT_MODIFIED),
        ('W/"w"', WEAK, NOT_MODIFIED),
        ('"x"', STRONG, PROCEED),
        ('"a', STRONG, PROCEED),
        ("a,b", STRONG, PROCEED),
        ('w/"a,b"', STRONG, PROCEED),
        ('*, "x"', STRONG, PROCEED),
        ('"a,b" trailing', STRONG, PROCEED),
        ('bad "a,b", "a,b"', STRONG, NOT_MODIFIED),
        ("", STRONG, PROCEED),
        ('""', Validators('""'), NOT_MODIFIED),
        ('"x"', BARE, PROCEED),
        ("abc", Validators("abc"), PROCEED),
        ('"a\\"', Validators('"a\\"'), NOT_MODIFIED),
    ],
)
def test_if_none_match_compares_weakly(field: str, validators: Validators, expected: Verdict) -> None:
    assert verdict(validators, (INM, field)) is expected
    assert verdict(validators, (INM, field), method="HEAD") is expected


def test_if_none_match_fails_other_methods() -> None:
    assert verdict(STRONG, (INM, '"a,b"'), method="PUT") is FAILED


@pytest.mark.parametrize(
    ("field", "validators", "expected"),
    [
        ('"a,b"', STRONG, PROCEED),
        ('"x", "a,b"', STRONG, PROCEED),
        ("*", BARE, PROCEED),
        ('W/"a,b"', STRONG, FAILED),
        ('"w"', WEAK, FAILED),
        ('W/"w"', WEAK, FAILED),
        ('"x"', STRONG, FAILED),
        ("garbage", STRONG, FAILED),
        ('"x"', BARE, FAILED),
    ],
)
def test_if_match_compares_strongly(field: str, validators: Validators, expected: Verdict) -> None:
    assert verdict(validators, (IM, field)) is expected


@pytest.mark.parametrize(
    ("name", "date", "validators", "expected"),
    [
        (IMS, BEFORE, STRONG, PROCEED),
        (IMS, MODIFIED, STRONG, NOT_MODIFIED),
        (IMS, AFTER, STRONG, NOT_MODIFIED),
        (IMS, "Sunday, 06-Nov-94 08:49:37 GMT", STRONG, NOT_MODIFIED),
        (IMS, "yesterday", STRONG, PROCEED),
        (IMS, f"{AFTER}, {AFTER}", STRONG, PROCEED),
        (IMS, AFTER, BARE, PROCEED),
        (IMS, AFTER, Validators(last_modified="never"), PROCEED),
        (IUS, BEFORE, STRONG, FAILED),
        (IUS, MODIFIED, STRONG, PROCEED),
        (IUS, AFTER, STRONG, PROCEED),
        (IUS, "yesterday", STRONG, PROCEED),
        (IUS, BEFORE, BARE, PROCEED),
    ],
)
def test_dates_are_compared_and_bad_ones_ignored(
    name: str, date: str, validators: Validators, expected: Verdict
) -> None:
    assert verdict(validators, (name, date)) is expected


def test_if_modified_since_counts_for_reads_only() -> None:
    assert verdict(STRONG, (IMS, AFTER), method="DELETE") is PROCEED


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(INM, '"x"'), (IMS, AFTER)], PROCEED),
        ([(INM, "garbage"), (IMS, AFTER)], PROCEED),
        ([(INM, '"a,b"'), (IMS, BEFORE)], NOT_MODIFIED),
        ([(IM, '"a,b"'), (IUS, BEFORE)], PROCEED),
        ([(IM, '"x"'), (INM, '"a,b"')], FAILED),
        ([(IM, '"a,b"'), (INM, '"a,b"')], NOT_MODIFIED),
        ([(IUS, BEFORE), (INM, '"a,b"')], FAILED),
        ([(IUS, AFTER), (IMS, AFTER)], NOT_MODIFIED),
        ([(INM, '"x"'), (INM, '"a,b"')], NOT_MODIFIED),
        ([], PROCEED),
    ],
)
def test_precedence_is_that_of_rfc_9110(lines: list[tuple[str, str]], expected: Verdict) -> None:
    assert verdict(STRONG, *lines) is expected


MINUTE_LATER = "Sun, 06 Nov 1994 08:50:37 GMT"
ALMOST_A_MINUTE_LATER = "Sun, 06 Nov 1994 08:50:36 GMT"


@pytest.mark.parametrize(
    ("field", "validators", "date", "expected"),
    [
        (None, BARE, None, True),
        ('"a,b"', STRONG, None, True),
        (' "a,b" ', STRONG, None, True),
        ('W/"a,b"', STRONG, None, False),
        ('W/"w"', WEAK, None, False),
        ('"w"', WEAK, None, False),
        ('"x"', STRONG, None, False),
        ('"a,b", "x"', STRONG, None, False),
        ("*", STRONG, None, False),
        ("", STRONG, None, False),
        ('X"a,b"', STRONG, None, False),
        ("a,b", Validators("a,b"), None, False),
        (MODIFIED, STRONG, MINUTE_LATER, True),
        (MODIFIED, STRONG, ALMOST_A_MINUTE_LATER, False),
        (MODIFIED, STRONG, None, False),
        (MODIFIED, STRONG, "garbage", False),
        (AFTER, STRONG, MINUTE_LATER, False),
        (BEFORE, STRONG, MINUTE_LATER, False),
        ("garbage", Validators(None, "garbage"), MINUTE_LATER, False),
        (MODIFIED, BARE, MINUTE_LATER, False),
    ],
)
def test_if_range_holds_only_for_the_same_strong_validator(
    field: str | None, validators: Validators, date: str | None, expected: bool
) -> None:
    assert if_range_holds(field, validators, date=date) is expected


@pytest.mark.parametrize("tag", ['"', "a", '"a"b"', '"a b"', 'W/ "a"', '"a"\n', '"\x7f"'])
def test_malformed_entity_tags_are_none(tag: str) -> None:
    assert not is_entity_tag(tag)


TAGS = st.text(alphabet="ab,\\/W", max_size=5).map(lambda text: f'"{text}"')


@given(st.lists(TAGS, max_size=5), TAGS)
def test_a_list_matches_exactly_when_the_tag_is_in_it(listed: list[str], tag: str) -> None:
    expected = NOT_MODIFIED if tag in listed else PROCEED
    assert verdict(Validators(tag), (INM, ", ".join(listed))) is expected


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_breaks_the_evaluation(field: str, tag: str) -> None:
    verdict(Validators(tag, tag), *((name, field) for name in (INM, IM, IMS, IUS)))
    if_range_holds(field, Validators(tag, tag), date=field)


def test_a_hostile_list_is_read_in_linear_time() -> None:
    began = time.perf_counter()
    verdict(STRONG, (INM, '"' + "," * 200_000))
    verdict(STRONG, (INM, '"a,' * 100_000))
    assert time.perf_counter() - began < 5
