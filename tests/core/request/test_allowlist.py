"""The allow-list: which pattern wins, and what it refuses at construction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.allowlist import AllowList, canonical_pattern
from cacheserver.core.request.service import Service


def service(name: str, *hosts: str, own: bool = False) -> Service:
    return Service(name=name, hosts=hosts, own=own)


def matched(allowlist: AllowList, host: str) -> str | None:
    found = allowlist.match(host)
    return None if found is None else found.name


SHIPPED = (
    service("update", "download.example.com", "*.example.com", "*.dl.example.com"),
    service("edge", "*.b.dl.example.com", "x.dl.example.com"),
)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("download.example.com", "update"),
        ("au.download.example.com", "update"),
        ("a.dl.example.com", "update"),
        ("x.dl.example.com", "edge"),
        ("y.x.dl.example.com", "update"),
        ("a.b.dl.example.com", "edge"),
        ("b.dl.example.com", "update"),
        ("example.com", None),
        ("notexample.com", None),
        ("evil-example.com", None),
        ("xdl.example.com.evil.net", None),
        ("example.com.evil.net", None),
        ("com", None),
        ("", None),
        ("127.0.0.1", None),
    ],
)
def test_exact_names_win_then_the_longest_zone_on_a_label_boundary(host: str, name: str | None) -> None:
    assert matched(AllowList(SHIPPED), host) == name


@pytest.mark.parametrize("order", [1, -1])
def test_own_services_win_ties_in_whatever_order_they_come(order: int) -> None:
    services = (*SHIPPED, service("mine", "download.example.com", "*.example.com", own=True))[::order]
    allowlist = AllowList(services)
    assert matched(allowlist, "download.example.com") == "mine"
    assert matched(allowlist, "a.example.com") == "mine"
    assert matched(allowlist, "a.dl.example.com") == "update"


def test_patterns_ignore_case_and_a_trailing_dot() -> None:
    allowlist = AllowList([service("a", "A.Example.COM.", "*.B.Example.com")])
    assert matched(allowlist, "a.example.com") == "a"
    assert matched(allowlist, "x.b.example.com") == "a"


def test_ip_literals_match_only_where_listed_exactly() -> None:
    allowlist = AllowList([service("a", "192.0.2.1", "[2001:DB8::1]", "wsus", "*.example.com")])
    assert matched(allowlist, "192.0.2.1") == "a"
    assert matched(allowlist, "[2001:db8::1]") == "a"
    assert matched(allowlist, "192.0.2.2") is None
    assert matched(allowlist, "[2001:db8::2]") is None
    assert matched(allowlist, "wsus") == "a"


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.",
        "*.com",
        "*.local",
        "**.example.com",
        "*.*.example.com",
        "a.*.example.com",
        "*example.com",
        "dl*.example.com",
        "*.192.0.2.1",
        "*.[::1]",
        "*.0.2.1",
        "a.example.com:80",
        "http://a.example.com",
        "a_b.example.com",
        "",
        "127.1",
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_bad_patterns_are_refused_at_construction(pattern: str, own: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        AllowList([service("a", pattern, own=own)])
    assert caught.value.key == "services.a.hosts"


@pytest.mark.parametrize("pattern", ["a.example.com", "*.example.com"])
def test_a_pattern_in_two_own_services_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AllowList([service("a", pattern, own=True), service("b", pattern.upper(), own=True)])
    assert caught.value.key == "services.b.hosts"


def test_the_first_shipped_service_has_a_pattern_that_two_list() -> None:
    allowlist = AllowList([service("a", "a.example.com"), service("b", "a.example.com")])
    assert matched(allowlist, "a.example.com") == "a"


def test_two_services_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        AllowList([service("a", "a.example.com"), service("a", "b.example.com", own=True)])
    assert caught.value.key == "services.a"


def test_an_empty_list_admits_nothing() -> None:
    assert AllowList(()).match("example.com") is None


def test_services_are_kept_as_given() -> None:
    assert AllowList(iter(SHIPPED)).services == SHIPPED


labels = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)


@given(st.lists(labels, min_size=2, max_size=4), st.lists(labels, max_size=3), labels)
def test_a_zone_matches_exactly_the_names_below_it(zone: list[str], below: list[str], glue: str) -> None:
    name = ".".join(zone)
    allowlist = AllowList([service("a", f"*.{name}")])
    assert (matched(allowlist, ".".join([*below, *zone])) is not None) == bool(below)
    assert matched(allowlist, f"{glue}{name}") is None
    assert canonical_pattern(f"*.{name}") == f"*.{name}"
