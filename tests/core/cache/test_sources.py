"""Which sources a target has, and of which class each of them is."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.sources import ALIAS, FURTHER, NODE, ORIGIN, cache_host_form, candidates
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.service import Service

SERVICE = Service(
    name="wsus",
    hosts=("one.test", "two.test"),
    canonical_host="one.test",
    sources=("https://mirror.test/base", "cachehost+http://node.test:8080", "http://two.test"),
)


def test_each_source_knows_its_class_and_none_is_asked_twice() -> None:
    target = parse_target("/file?a=1", ("one.test",), tls=False, allowlist=AllowList((SERVICE,)))
    assert [(source.name, source.path_and_query, source.kind) for source in candidates(target)] == [
        ("http://one.test:80", "/file?a=1", ORIGIN),
        ("http://two.test:80", "/file?a=1", ALIAS),
        ("https://mirror.test:443", "/base/file?a=1", FURTHER),
        ("http://node.test:8080", "/file?a=1&cacheHostOrigin=one.test", NODE),
    ]


def test_the_pair_of_a_cache_node_stands_last_behind_a_query_or_as_the_query() -> None:
    assert cache_host_form("/a?b=1", "h.test") == "/a?b=1&cacheHostOrigin=h.test"
    assert cache_host_form("/a", "[::1]") == "/a?cacheHostOrigin=%5B%3A%3A1%5D"
    assert cache_host_form("/a?", "h.test") == "/a?&cacheHostOrigin=h.test"


@pytest.mark.parametrize(
    "name",
    [
        "cacheHostOrigin",
        "cachehostorigin",
        "CACHEHOSTORIGIN",
        "cacheHostOrigi%6e",
        "%20cacheHostOrigin",
        "cacheHostOrigin%09",
    ],
)
def test_a_cache_node_is_never_given_two_pairs_that_it_could_confuse(name: str) -> None:
    assert cache_host_form(f"/a?{name}=evil.test", "h.test") == "/a?cacheHostOrigin=h.test"
    assert cache_host_form(f"/a?b=1&{name}=evil.test&{name}&c", "h.test") == "/a?b=1&c&cacheHostOrigin=h.test"
