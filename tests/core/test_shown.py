"""Refused values and URLs in messages: the place stays, what may be a secret goes."""

from __future__ import annotations

import pytest

from cacheserver.core.shown import bare_url, shown, without_secrets

SECRET = "S3cr3t"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/p", "http://h/p"),
        ("http://h", "http://h"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        (f"http://u:{SECRET}@h:8/p", "http://h:8/p"),
        (f"cachehost+http://{SECRET}@h", "cachehost+http://h"),
        (f"http://u:a@{SECRET}@h/p", "http://h/p"),
        (f"http://u:a/{SECRET}@h/p", "http://(removed)"),
        (f"http://u:a?{SECRET}@h/p", "http://(removed)"),
        (f"http://u:a#{SECRET}@h/p", "http://(removed)"),
        (f"http://u:a\\{SECRET}@h/p", "http://(removed)"),
        (f"http://h/p?a={SECRET}", "http://h/p?(removed)"),
        (f"http://h/p?a=b@{SECRET}", "http://(removed)"),
        (f"http://h/p#{SECRET}", "http://h/p#(removed)"),
        (f"http://h/p;s={SECRET}", "http://h/p;(removed)"),
        (f"http://h/p%3Fa={SECRET}", "http://h/p%(removed)"),
        (f"http://h/p%3fa={SECRET}", "http://h/p%(removed)"),
        ("http://h/p?", "http://h/p"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_secret(url: str, expected: str) -> None:
    assert bare_url(url) == expected
    assert without_secrets(f"from {url} to 'x'") == f"from {expected} to 'x'"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("dl.example.com", "dl.example.com"),
        ("*.example.com:80", "*.example.com:80"),
        ("https://h:8443/", "https://h:8443"),
        ("[::1]:80", "[::1]:80"),
        (f"u:{SECRET}@h:80", "(removed)"),
        (f"http://u:{SECRET}@h/p", "http://h..."),
        (f"https://h/{SECRET}", "https://h..."),
        (f"Authorization: Bearer {SECRET}", "Authorization:..."),
        (f"h?{SECRET}", "h..."),
        (f"/{SECRET}", "..."),
        ("a b", "a..."),
        ("x" * 500, "x" * 80 + "..."),
        ("", ""),
    ],
)
def test_a_refused_value_is_shown_as_far_as_it_names_a_host(value: str, expected: str) -> None:
    assert shown(value) == expected
