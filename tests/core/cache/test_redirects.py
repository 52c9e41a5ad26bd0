"""Where a redirect may lead (I9)."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from cacheserver.core.cache.redirects import REDIRECTS, Hop, bounded, follow
from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.admission import target_of
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.service import Service

SERVICE = Service(name="own", hosts=("a.test", "b.test", "*.zone.test"), own=True)
PORTED = Service(name="ported", hosts=("p.test",), own=True, port=8080)
ALLOWED = partial(target_of, allowlist=AllowList((SERVICE, PORTED)))
SECRET = (("Authorization", "Basic x"), ("Cookie", "a=b"), ("Range", "bytes=0-1"), ("X-Own", "1"))
REQUEST = UpstreamRequest("GET", Source("http", "a.test", 80, "/dir/file?q=1"), Fields(SECRET), SERVICE)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/other", "http://a.test/other"),
        ("other?x=%2f", "http://a.test/dir/other?x=%2f"),
        ("?x", "http://a.test/dir/file?x"),
        ("//b.test/p", "http://b.test/p"),
        ("http://b.test/p%2Fq?A=%2b", "http://b.test/p%2Fq?A=%2b"),
        ("https://b.test/", "https://b.test/"),
        ("https://b.test", "https://b.test/"),
        ("http://x.zone.test:80/p", "http://x.zone.test/p"),
        ("http://B.TEST/p", "http://b.test/p"),
        ("http://b.test/p#part", "http://b.test/p"),
        ("http://p.test/p", "http://p.test:8080/p"),
        ("http://b.test/a b?c d", "http://b.test/a%20b?c%20d"),
        (" /other\t", "http://a.test/other"),
        ("/\xc3\x9cbersicht%20x", "http://a.test/%C3%9Cbersicht%20x"),
    ],
)
def test_allowed_hosts_are_followed(location: str, expected: str) -> None:
    target = follow(REQUEST, location, ALLOWED)
    assert target is not None
    assert target.place.url == expected
    assert target.method == "GET"


@pytest.mark.parametrize(
    "location",
    [
        "http://evil.test/",
        "http://zone.test/",
        "http://a.test.evil.test/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://b.test:22/",
        "http://p.test:22/",
        "http://user@b.test/",
        "http://a.test@evil.test/",
        "http://b.test\\@evil.test/",
        "ftp://b.test/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://[bad/",
        "http://b.test:99999/",
        "http://b.test:x/",
        "http://b_test/",
        "http://b.t\xc3\xa4st/",
        "http://b.test /p",
        "//evil.test/p",
        "/p?cacheHostOrigin=evil.test",
    ],
)
def test_everything_else_is_refused(location: str) -> None:
    assert follow(REQUEST, location, ALLOWED) is None


@pytest.mark.parametrize("location", ["", "#part", "http://", "http:///p", "http:p"])
def test_a_location_without_a_host_stays_where_it_is(location: str) -> None:
    target = follow(REQUEST, location, ALLOWED)
    assert target is None or (target.place.host, target.place.port) == ("a.test", 80)


def test_credentials_stay_with_their_host() -> None:
    same = follow(REQUEST, "/other", ALLOWED)
    other = follow(REQUEST, "http://b.test/other", ALLOWED)
    assert same is not None
    assert other is not None
    assert tuple(same.fields) == SECRET
    assert tuple(other.fields) == (("Range", "bytes=0-1"),)


def test_credentials_do_not_follow_a_downgrade_to_plain_http() -> None:
    secure = UpstreamRequest("GET", Source("https", "a.test", 443, "/file"), Fields(SECRET), SERVICE)
    plain = follow(secure, "http://a.test/file", ALLOWED)
    assert plain is not None
    assert "Authorization" not in plain.fields


@pytest.mark.parametrize(
    "name",
    ["Range", "If-Range", "If-None-Match", "If-Modified-Since", "Accept-Encoding", "Accept", "Via", "User-Agent"],
)
def test_a_field_that_shapes_the_answer_goes_along_to_another_host(name: str) -> None:
    asked = UpstreamRequest("GET", REQUEST.place, Fields([(name, "1"), ("Cookie", "a=b")]), SERVICE)
    other = follow(asked, "http://b.test/other", ALLOWED)
    assert other is not None
    assert tuple(other.fields) == ((name, "1"),)


def test_the_redirects_are_those_of_rfc_9110_that_name_one_target() -> None:
    assert REDIRECTS == (301, 302, 303, 307, 308)


NOW_S = 1_800_000_000.0
ANSWER = (("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"), ("Cache-Control", "public, max-age=86400, no-transform"))
IMMUTABLE = msgspec.structs.replace(SERVICE, lifetime="immutable")
EXPIRED = ("Expires", "0")


Lines = tuple[tuple[str, str], ...]
SHORT = ("Cache-Control", "s-maxage=9")


@pytest.mark.parametrize(
    ("hops", "told"),
    [
        ([], "public, max-age=86400, no-transform"),
        ([(301, ())], "public, max-age=86400, no-transform"),
        ([(308, ())], "public, max-age=86400, no-transform"),
        ([(302, ())], "max-age=0, no-transform"),
        ([(303, ())], "max-age=0, no-transform"),
        ([(307, ())], "max-age=0, no-transform"),
        ([(301, (EXPIRED,))], "max-age=0, no-transform"),
        ([(301, (("Cache-Control", "no-cache"),))], "max-age=0, no-transform"),
        ([(302, (("Cache-Control", "max-age=31536000"),))], "public, max-age=86400, no-transform"),
        ([(302, (("Cache-Control", "max-age=60"),))], "max-age=60, no-transform"),
        ([(302, (("Cache-Control", "max-age=60"), ("Age", "50")))], "max-age=10, no-transform"),
        ([(302, (("Cache-Control", "max-age=60"),)), (301, ())], "max-age=60, no-transform"),
        ([(301, ()), (302, ())], "max-age=0, no-transform"),
        (
            [(302, (("Cache-Control", "max-age=600"),)), (301, (SHORT,))],
            "max-age=9, no-transform",
        ),
        ([(301, (("Cache-Control", "no-store"),))], "public, max-age=86400, no-transform, no-store"),
        ([(302, (("Cache-Control", "private, max-age=60"),))], "max-age=60, no-transform, private"),
    ],
)
def test_what_redirects_led_to_is_used_no_longer_than_they_may_be(
    hops: list[tuple[int, tuple[tuple[str, str], ...]]], told: str
) -> None:
    followed = [Hop(status, Fields(lines), NOW_S) for status, lines in hops]
    assert bounded(Fields(ANSWER), followed, SERVICE, NOW_S).value("Cache-Control") == told


def test_a_guessed_lifetime_is_bounded_too() -> None:
    guessed = Fields(ANSWER[:1])
    assert bounded(guessed, [Hop(302, Fields(), NOW_S)], SERVICE, NOW_S).value("Cache-Control") == "max-age=0"
    assert bounded(guessed, [Hop(301, Fields(), NOW_S)], SERVICE, NOW_S) == guessed


def test_content_that_is_immutable_is_asked_for_again_behind_a_temporary_redirect() -> None:
    for lines in ((), ANSWER):
        told = bounded(Fields(lines), [Hop(302, Fields(), NOW_S)], IMMUTABLE, NOW_S).value("Cache-Control")
        assert (told or "").startswith("max-age=0, must-revalidate")
    assert bounded(Fields(), [Hop(301, Fields(), NOW_S)], IMMUTABLE, NOW_S) == Fields()


def test_a_redirect_that_selects_by_request_fields_makes_variants() -> None:
    hops = [Hop(301, Fields([("Vary", "Accept-Language")]), NOW_S)]
    assert bounded(Fields([("Vary", "Accept")]), hops, SERVICE, NOW_S).value("Vary") == "Accept, Accept-Language"
