"""Cache-Control: directives, and the stricter reading of whatever is ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.cache_control import (
    MAX_DELTA_S,
    CacheControl,
    parse_cache_control,
    parse_delta_seconds,
    request_cache_control,
    response_cache_control,
)
from cacheserver.core.http.fields import Fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, CacheControl()),
        ("", CacheControl()),
        (" , ,", CacheControl()),
        ("max-age=60", CacheControl(max_age=60)),
        ("Max-Age=60,PUBLIC", CacheControl(max_age=60, public=True)),
        ('max-age="60"', CacheControl(max_age=60)),
        ("s-maxage=5, max-age=60", CacheControl(s_maxage=5, max_age=60)),
        ("no-store", CacheControl(no_store=True)),
        ("no-store=1", CacheControl(no_store=True)),
        ("no-cache", CacheControl(no_cache=True)),
        ('no-cache="Set-Cookie, X-A"', CacheControl(no_cache=("set-cookie", "x-a"))),
        ("no-cache=Set-Cookie", CacheControl(no_cache=("set-cookie",))),
        ('private="X-A"', CacheControl(private=("x-a",))),
        ("private", CacheControl(private=True)),
        ("must-revalidate, proxy-revalidate", CacheControl(must_revalidate=True, proxy_revalidate=True)),
        (
            "stale-while-revalidate=3, stale-if-error=4",
            CacheControl(stale_while_revalidate=3, stale_if_error=4),
        ),
        ("immutable, must-understand", CacheControl(immutable=True, must_understand=True)),
        ("max-stale, min-fresh=7", CacheControl(max_stale=MAX_DELTA_S, min_fresh=7)),
        ("max-stale=9", CacheControl(max_stale=9)),
        ("only-if-cached, no-transform", CacheControl(only_if_cached=True, no_transform=True)),
        ("x-unknown=1, max-age=1", CacheControl(max_age=1)),
    ],
)
def test_directives_are_read(value: str | None, expected: CacheControl) -> None:
    assert parse_cache_control(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=60, max-age=5", CacheControl(max_age=5)),
        ("max-age=5, max-age=60", CacheControl(max_age=5)),
        ("max-age=60, max-age=x", CacheControl(max_age=0)),
        ("min-fresh=5, min-fresh=60", CacheControl(min_fresh=60)),
        ("min-fresh=x", CacheControl(min_fresh=MAX_DELTA_S)),
        ("max-age", CacheControl(max_age=0)),
        ("max-age=", CacheControl(max_age=0)),
        ("max-age=-1", CacheControl(max_age=0)),
        ("max-age=1.5", CacheControl(max_age=0)),
        ("max-age=60s", CacheControl(max_age=0)),
        ("max-age= 60", CacheControl(max_age=0)),
        ("max-age =60", CacheControl(max_age=0)),
        ("max-age='60'", CacheControl(max_age=0)),
        ("max-age=\u0666", CacheControl(max_age=0)),
        ("max-stale=x", CacheControl(max_stale=0)),
        ("no-cache, no-cache=x", CacheControl(no_cache=True)),
        ('private="a", private="b, a"', CacheControl(private=("a", "b"))),
        ('private=""', CacheControl(private=True)),
        ('private="a b"', CacheControl(private=True)),
        ('private="a, b c"', CacheControl(private=True)),
        ('private="a', CacheControl(private=True)),
        ("private =a", CacheControl(private=True)),
        ("public=yes, immutable=1, must-understand=1", CacheControl()),
    ],
)
def test_ambiguity_is_read_in_the_stricter_way(value: str, expected: CacheControl) -> None:
    assert parse_cache_control(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('x="no-store, max-age=0", max-age=9', CacheControl(max_age=9)),
        (r'x="a\", no-store", max-age=9', CacheControl(max_age=9)),
        ('x="open, no-store', CacheControl(no_store=True)),
    ],
)
def test_quoted_commas_do_not_split_and_an_open_quote_hides_nothing(value: str, expected: CacheControl) -> None:
    assert parse_cache_control(value) == expected


@pytest.mark.parametrize("digits", ["2147483649", "99999999999", "9" * 5000, "0" * 5000 + "2147483648"])
def test_overflow_is_clamped(digits: str) -> None:
    assert parse_cache_control(f"max-age={digits}").max_age == MAX_DELTA_S


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("007", 7), ("", None), ("-1", None), ("\u00b2", None)])
def test_delta_seconds_are_ascii_digits(text: str, expected: int | None) -> None:
    assert parse_delta_seconds(text) == expected


def test_pragma_counts_only_without_cache_control() -> None:
    pragma = ("Pragma", "x=1, No-Cache")
    assert request_cache_control(Fields([pragma])) == CacheControl(no_cache=True)
    assert request_cache_control(Fields([pragma, ("Cache-Control", "max-age=5")])) == CacheControl(max_age=5)
    assert request_cache_control(Fields([("Pragma", "other")])) == CacheControl()
    assert response_cache_control(Fields([pragma])) == CacheControl()


def test_all_lines_count() -> None:
    fields = Fields([("Cache-Control", "max-age=60"), ("cache-control", "no-store")])
    assert response_cache_control(fields) == CacheControl(max_age=60, no_store=True)


CC_TEXT = st.lists(
    st.sampled_from(['"', "\\", ",", "=", " ", "max-age", "no-cache", "private", "60", "9" * 30, "\x00", "é", "²"]),
    max_size=20,
).map("".join)


@given(st.one_of(st.text(max_size=60), CC_TEXT))
def test_parser_never_raises_and_numbers_stay_in_range(value: str) -> None:
    read = parse_cache_control(value)
    for number in (read.max_age, read.s_maxage, read.max_stale, read.min_fresh):
        assert number is None or 0 <= number <= MAX_DELTA_S


@given(CC_TEXT)
def test_nothing_before_it_hides_a_last_no_store(value: str) -> None:
    if value.count('"') == 0:
        assert parse_cache_control(f"{value}, no-store").no_store
