"""Age, lifetime and staleness: RFC 9111 §4.2 as tables."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cacheserver.core.cache.freshness import (
    HEURISTIC_MAX_S,
    assess,
    current_age_s,
    is_mutable,
    lifetime_s,
    received_age_s,
)
from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.cache_control import CacheControl, parse_cache_control
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.http.validators import Validators
from cacheserver.core.request.service import Service

T = 1_700_000_000.0
RFC = Service(name="own", hosts=("h",), own=True, stale_if_error_s=0)
SHIPPED = Service(
    name="shipped",
    hosts=("h",),
    lifetime="immutable",
    mutable=("*.CAB", "/fresh/*", "exact.txt"),
    mutable_lifetime_s=300,
    stale_while_revalidate_s=60,
    stale_if_error_s=600,
)
NOTHING = CacheControl()


def rep(*lines: tuple[str, str], asked_s: float = T, came_s: float = T, invalidated: bool = False) -> Representation:
    return Representation(
        key="k",
        object_id="0" * 32,
        service="s",
        length_bytes=1,
        piece_size_bytes=1,
        fields=Fields(lines),
        validators=Validators(),
        request_time_s=asked_s,
        response_time_s=came_s,
        origin="http://h",
        invalidated=invalidated,
    )


def cc(value: str) -> tuple[str, str]:
    return ("Cache-Control", value)


def date(offset_s: float) -> str:
    return format_http_date(T + offset_s)


@pytest.mark.parametrize(
    ("lines", "asked_s", "now_s", "expected"),
    [
        ([], T, T, 0),
        ([], T, T + 10, 10),
        ([], T - 3, T + 10, 13),
        ([("Age", "100")], T - 3, T + 10, 113),
        ([("Date", date(-50))], T - 3, T + 10, 60),
        ([("Date", date(-50)), ("Age", "100")], T, T + 10, 110),
        ([("Date", date(50))], T, T + 10, 10),
        ([("Date", "garbage")], T, T + 10, 10),
        ([("Age", "garbage")], T, T + 10, 10),
        ([("Age", "-5")], T, T + 10, 10),
        ([("Age", "7, 100")], T, T, 7),
        ([("Age", "7"), ("Age", "100")], T, T, 7),
        ([("Age", "5")], T, T - 1000, 5),
        ([], T + 1000, T, 0),
    ],
)
def test_age_is_computed_as_in_rfc_9111(
    lines: list[tuple[str, str]], asked_s: float, now_s: float, expected: float
) -> None:
    assert current_age_s(rep(*lines, asked_s=asked_s), now_s) == expected


def test_age_taken_off_the_request_time_counts_like_the_field() -> None:
    answer = Fields([("Age", "100")])
    with_field = current_age_s(rep(("Age", "100"), asked_s=T - 3), T + 10)
    assert current_age_s(rep(asked_s=T - 3 - received_age_s(answer)), T + 10) == with_field


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.floats(0, 4e9), st.text(max_size=12))
def test_age_is_never_negative(asked_s: float, came_s: float, now_s: float, age: str) -> None:
    assert current_age_s(rep(("Age", age), ("Date", date(0)), asked_s=asked_s, came_s=came_s), now_s) >= 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], 0),
        ([cc("max-age=60")], 60),
        ([cc("max-age=60, s-maxage=10")], 10),
        ([cc("max-age=10, s-maxage=60")], 60),
        ([cc("max-age=60"), ("Expires", date(999))], 60),
        ([cc("max-age=x"), ("Expires", date(999))], 0),
        ([cc("max-age=60, no-cache")], 0),
        ([cc('max-age=60, no-cache="X-A"')], 60),
        ([("Expires", date(100)), ("Date", date(0))], 100),
        ([("Expires", date(100)), ("Date", date(-20))], 120),
        ([("Expires", date(100))], 100),
        ([("Expires", date(-100)), ("Date", date(0))], 0),
        ([("Expires", "0"), ("Last-Modified", date(-1000))], 0),
        ([("Expires", date(100)), ("Expires", date(50))], 50),
        ([("Expires", date(100)), ("Expires", "0")], 0),
        ([("Last-Modified", date(-1000)), ("Date", date(0))], 100),
        ([("Last-Modified", date(-1000))], 100),
        ([("Last-Modified", date(-1e9)), ("Date", date(0))], HEURISTIC_MAX_S),
        ([("Last-Modified", date(1000)), ("Date", date(0))], 0),
        ([("Last-Modified", "garbage")], 0),
    ],
)
def test_own_services_have_the_lifetime_of_rfc_9111(lines: list[tuple[str, str]], expected: float) -> None:
    assert lifetime_s(rep(*lines), RFC, "/p") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("path", "lines", "expected"),
    [
        ("/a/file.exe", [], math.inf),
        ("/a/file.exe", [("Expires", "0")], math.inf),
        ("/a/file.exe", [cc("max-age=3600")], math.inf),
        ("/a/file.exe", [cc("max-age=3599")], 300),
        ("/a/file.exe", [cc("max-age=10")], 10),
        ("/a/file.exe", [cc("max-age=0, s-maxage=7200")], math.inf),
        ("/a/file.exe", [cc("no-cache")], 300),
        ("/a/file.exe", [cc("no-cache, max-age=5")], 5),
        ("/a/file.exe", [cc('no-cache="X-A"')], math.inf),
        ("/a/list.cab", [], 300),
        ("/a/list.cab", [cc("max-age=86400")], 300),
        ("/a/list.cab", [cc("max-age=9")], 9),
    ],
)
def test_shipped_services_are_immutable_but_for_mutable_paths(
    path: str, lines: list[tuple[str, str]], expected: float
) -> None:
    assert lifetime_s(rep(*lines), SHIPPED, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/Trust.Cab", True),
        ("/a.cab/b", False),
        ("/trust.cab?x=1", True),
        ("/trust%2Ecab", True),
        ("/x?y=trust.cab", False),
        ("/fresh/a/b", True),
        ("/a/fresh/b", False),
        ("/dir/exact.txt", True),
        ("/dir/inexact.txt", False),
    ],
)
def test_mutable_globs_match_the_whole_path_or_its_last_segment(path: str, expected: bool) -> None:
    assert is_mutable(SHIPPED, path) is expected


def states(
    service: Service, response: str, request: str, age: float, *, invalidated: bool = False
) -> tuple[bool, bool, bool]:
    lines = [cc(response)] if response else []
    stored = rep(*lines, invalidated=invalidated)
    found = assess(stored, service, "/list.cab", parse_cache_control(request), T + age)
    assert found.age_s == age
    return (found.fresh, found.stale_while_revalidate, found.stale_if_error)


FRESH, DEAD = (True, False, False), (False, False, False)
AT_ONCE, ON_ERROR = (False, True, True), (False, False, True)
SWR_ONLY = (False, True, False)


@pytest.mark.parametrize(
    ("response", "request_directives", "age", "expected"),
    [
        ("max-age=60", "", 59, FRESH),
        ("max-age=60", "", 60, DEAD),
        ("max-age=60, stale-while-revalidate=10", "", 70, SWR_ONLY),
        ("max-age=60, stale-while-revalidate=10", "", 71, DEAD),
        ("max-age=60, stale-if-error=10", "", 70, ON_ERROR),
        ("max-age=60, stale-if-error=10", "", 71, DEAD),
        ("max-age=60, stale-while-revalidate=10, stale-if-error=10", "", 65, AT_ONCE),
        ("max-age=60, stale-while-revalidate=10, stale-if-error=10, must-revalidate", "", 65, DEAD),
        ("max-age=60, stale-while-revalidate=10, stale-if-error=10, proxy-revalidate", "", 65, DEAD),
        ("s-maxage=60, stale-while-revalidate=10, stale-if-error=10", "", 65, DEAD),
        ("max-age=60, stale-while-revalidate=99, stale-if-error=99, no-cache", "", 1, DEAD),
        ("s-maxage=60, must-revalidate", "", 59, FRESH),
        ("max-age=60", "no-cache", 1, DEAD),
        ("max-age=60, stale-if-error=10", "no-cache", 1, DEAD),
        ("max-age=60", "max-age=5", 5, FRESH),
        ("max-age=60", "max-age=5", 6, DEAD),
        ("max-age=60, stale-while-revalidate=10, stale-if-error=10", "max-age=5", 6, ON_ERROR),
        ("max-age=60", "min-fresh=10", 50, FRESH),
        ("max-age=60, stale-while-revalidate=10", "min-fresh=10", 51, DEAD),
        ("max-age=60", "max-stale=10", 70, AT_ONCE),
        ("max-age=60", "max-stale=10", 71, DEAD),
        ("max-age=60", "max-stale", 10**6, AT_ONCE),
        ("max-age=60, must-revalidate", "max-stale", 61, DEAD),
        ("max-age=60", "max-stale=10, max-age=65", 66, ON_ERROR),
        ("max-age=60", "stale-if-error=10", 65, ON_ERROR),
    ],
)
def test_own_services_obey_origin_and_client(
    response: str, request_directives: str, age: float, expected: tuple[bool, bool, bool]
) -> None:
    assert states(RFC, response, request_directives, age) == expected


@pytest.mark.parametrize(
    ("response", "request_directives", "age", "expected"),
    [
        ("", "", 299, FRESH),
        ("", "no-cache, max-age=0, min-fresh=9999", 299, FRESH),
        ("", "no-cache", 360, AT_ONCE),
        ("", "", 361, ON_ERROR),
        ("", "max-stale", 901, DEAD),
        ("must-revalidate", "", 301, DEAD),
    ],
)
def test_shipped_services_have_their_own_windows_and_ignore_the_client(
    response: str, request_directives: str, age: float, expected: tuple[bool, bool, bool]
) -> None:
    assert states(SHIPPED, response, request_directives, age) == expected


@pytest.mark.parametrize(
    ("response", "age", "expected"),
    [
        ("max-age=60", 160, ON_ERROR),
        ("max-age=60", 161, DEAD),
        ("max-age=60, stale-if-error=10", 71, DEAD),
        ("max-age=60, stale-if-error=200", 260, ON_ERROR),
        ("max-age=60, stale-if-error=10, must-revalidate", 61, DEAD),
        ("max-age=60, must-revalidate", 61, DEAD),
        ("max-age=60, proxy-revalidate", 61, DEAD),
        ("s-maxage=60", 61, DEAD),
        ("no-cache", 1, DEAD),
    ],
)
def test_the_setting_allows_stale_on_errors_where_the_origin_says_nothing_of_it(
    response: str, age: float, expected: tuple[bool, bool, bool]
) -> None:
    assert states(replace(RFC, stale_if_error_s=100), response, "", age) == expected


def test_windows_of_zero_allow_nothing_stale() -> None:
    strict = replace(SHIPPED, stale_while_revalidate_s=0, stale_if_error_s=0)
    assert states(strict, "", "", 300) == DEAD


@pytest.mark.parametrize(("ahead_s", "fresh"), [(-10, True), (30, True), (61, False), (365 * 86_400, False)])
def test_what_came_when_the_clock_ran_ahead_is_asked_about_again(ahead_s: float, fresh: bool) -> None:
    stored = rep(cc("max-age=600"), asked_s=T + ahead_s, came_s=T + ahead_s)
    found = assess(stored, RFC, "/x", NOTHING, T)
    assert (found.fresh, found.lifetime_s) == (fresh, 600)
    assert assess(stored, SHIPPED, "/x.cab", NOTHING, T).fresh is fresh
    unchanging = rep(asked_s=T + ahead_s, came_s=T + ahead_s)
    assert assess(unchanging, SHIPPED, "/x.exe", NOTHING, T).fresh, "what never changes has no age that counts"


@pytest.mark.parametrize("service", [RFC, SHIPPED], ids=lambda service: service.name)
def test_invalidated_is_neither_fresh_nor_usable_stale(service: Service) -> None:
    response = "max-age=60, stale-while-revalidate=99, stale-if-error=99"
    assert states(service, response, "max-stale", 1, invalidated=True) == DEAD
    assert states(service, response, "max-stale", 1) == FRESH


def test_immutable_content_stays_fresh_for_years() -> None:
    found = assess(rep(), SHIPPED, "/a.exe", NOTHING, T + 1e9)
    assert found.fresh
    assert found.lifetime_s == math.inf


def test_a_service_may_have_a_least_lifetime_where_the_origin_says_nothing() -> None:
    floored = replace(RFC, heuristic_min_s=60)
    assert lifetime_s(rep(), RFC, "/f") == 0
    assert lifetime_s(rep(), floored, "/f") == 60
    assert lifetime_s(rep(("Last-Modified", date(-100))), floored, "/f") == 60
    assert lifetime_s(rep(("Last-Modified", date(-1000)), ("Date", date(0))), floored, "/f") == 100
    for said in (cc("max-age=9"), cc("no-cache"), cc("no-store"), cc("private"), ("Expires", "0")):
        assert lifetime_s(rep(said), floored, "/f") == lifetime_s(rep(said), RFC, "/f")


@pytest.mark.parametrize("word", ["no-store", "private"])
def test_nothing_is_guessed_from_a_prohibition(word: str) -> None:
    old = ("Last-Modified", date(-1_000_000))
    assert lifetime_s(rep(old), RFC, "/f") > 0
    assert lifetime_s(rep(old, cc(word)), RFC, "/f") == 0
    assert lifetime_s(rep(old, cc(f"{word}, max-age=9")), RFC, "/f") == 9
