"""URLs of sources and manifests."""

from __future__ import annotations

import pytest

from cacheserver.core.errors import MalformedRequest
from cacheserver.fetch.http import redirected, request_for
from cacheserver.fetch.sources import manifest_url_of, parse_url, sources_of, through
from cacheserver.settings.shipped import load_shipped_services


@pytest.mark.parametrize(
    ("cache_host", "url", "expected"),
    [
        ("cache", "http://o.example/a?b=%2b", "http://cache/a?b=%2b&cacheHostOrigin=o.example"),
        ("cache:8080", "http://o.example/a", "http://cache:8080/a?cacheHostOrigin=o.example"),
        ("cache", "https://o.example/a", "https://cache/a?cacheHostOrigin=o.example"),
        ("cache", "http://o.example:81/a", "http://cache:81/a?cacheHostOrigin=o.example"),
        ("http://cache", "https://o.example/a", "http://cache/a?cacheHostOrigin=o.example"),
        ("[::1]:8080", "http://[2001:db8::1]/a", "http://[::1]:8080/a?cacheHostOrigin=%5B2001%3Adb8%3A%3A1%5D"),
        ("cache", "HTTP://O.Example?x=1#f", "http://cache/?x=1&cacheHostOrigin=o.example"),
    ],
)
def test_cache_host_form(cache_host: str, url: str, expected: str) -> None:
    assert through(cache_host, parse_url(url)).url == expected


def test_every_source_once_cache_hosts_first() -> None:
    sources = sources_of(parse_url("http://o.example/a"), ("b", "a", "b:80"), origin=True)
    assert [source.origin for source in sources] == ["http://b", "http://a", "http://o.example"]


@pytest.mark.parametrize(
    "text", ["o.example/a", "ftp://o.example/a", "http:///a", "http://u@o/a", "http://o/\n", "http://o/a b"]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_url(text)


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a/x/y?q", "z", "http://a/x/z"),
        ("http://a/x", "//b:81/c?d#e", "http://b:81/c?d"),
        ("http://a/x", "https://b/", "https://b/"),
        ("https://a/x", "http://a/x", None),
        ("https://a/x", "http://b/", None),
        ("http://a/x", "ftp://b/", None),
        ("http://a/x", "http://[bad", None),
        ("http://a/x", "http://u:p@b/", None),
    ],
)
def test_redirects(url: str, location: str, target: str | None) -> None:
    found = redirected(request_for(parse_url(url)), location)
    assert (found.place.url if found else None) == target


def test_manifest_by_the_rule_of_the_service() -> None:
    services = load_shipped_services()
    path = "/filestreamingservice/files/52fa8751-747d-479d-8f22-e32730cc0eb1"
    found = manifest_url_of(parse_url(f"http://9.tlu.dl.delivery.mp.microsoft.com{path}?P1=1"), services)
    assert found is not None
    assert found.url == f"http://9.tlu.dl.delivery.mp.microsoft.com{path}/pieceshash"
    assert manifest_url_of(parse_url("http://unknown.example/a"), services) is None
    assert manifest_url_of(parse_url("http://dl.delivery.mp.microsoft.com:81/a"), services) is None
