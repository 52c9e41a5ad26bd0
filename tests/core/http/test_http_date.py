"""HTTP-date: the three forms, nothing else."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.http_date import format_http_date, parse_http_date

EXAMPLE_S = 784111777.0
NOW_S = 1_700_000_000.0
LAST_S = 253402300799


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
        "sun, 06 NOV 1994 08:49:37 gmt",
    ],
)
def test_all_forms_of_the_rfc_name_one_second(value: str) -> None:
    assert parse_http_date(value, now_s=NOW_S) == EXAMPLE_S
    assert parse_http_date(value) == EXAMPLE_S


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "-1",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Thu, 30 Feb 1995 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:3\u0667 GMT",
        "\u017fun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
    ],
)
def test_everything_else_is_no_date(value: str) -> None:
    assert parse_http_date(value, now_s=NOW_S) is None


def test_two_digit_year_is_never_more_than_fifty_years_ahead() -> None:
    # NOW_S is 14 November 2023: 73 may still come, 74 has been.
    in_2073 = parse_http_date("Sunday, 01-Jan-73 00:00:00 GMT", now_s=NOW_S)
    in_1974 = parse_http_date("Tuesday, 01-Jan-74 00:00:00 GMT", now_s=NOW_S)
    assert in_2073 is not None
    assert format_http_date(in_2073) == "Sun, 01 Jan 2073 00:00:00 GMT"
    assert in_1974 is not None
    assert format_http_date(in_1974) == "Tue, 01 Jan 1974 00:00:00 GMT"


def test_leap_second_is_the_second_after() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_http_date("Sun, 01 Jan 2017 00:00:00 GMT")


@given(st.integers(-62135596800, LAST_S))
def test_dates_round_trip(time_s: int) -> None:
    assert parse_http_date(format_http_date(time_s)) == time_s


@given(st.integers(0, LAST_S))
def test_format_agrees_with_the_standard_library(time_s: int) -> None:
    assert format_http_date(time_s) == formatdate(time_s, usegmt=True)


@given(st.floats(0, LAST_S))
def test_fractions_are_rounded_down(time_s: float) -> None:
    parsed = parse_http_date(format_http_date(time_s))
    assert parsed is not None
    assert 0 <= time_s - parsed < 1


@given(st.text(max_size=40), st.floats())
def test_no_text_and_no_clock_breaks_the_parser(text: str, now_s: float) -> None:
    parse_http_date(text, now_s=now_s)
    parse_http_date("Monday, 29-Feb-00 00:00:00 GMT", now_s=now_s)


@pytest.mark.parametrize(
    "value", ["Mon, 06 Nov 1994 08:49:37 GMT", "Monday, 06-Nov-94 08:49:37 GMT", "Mon Nov  6 08:49:37 1994"]
)
def test_a_weekday_of_another_date_is_read_over(value: str) -> None:
    assert parse_http_date(value, now_s=NOW_S) == 784111777.0
