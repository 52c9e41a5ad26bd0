"""The memory of refusals: what it keeps, what it drops, what it advises."""

from __future__ import annotations

import tomllib

import pytest

from cacheserver.core.errors import AddressRefused, CacheserverError, Remedy, RequestError, kind_of
from cacheserver.core.request.recent_refusals import LIMIT, RecentRefusals, Refused
from cacheserver.settings.services_table import service_from_allow


def remedy(code: str, host: str) -> Remedy:
    return kind_of(code).advice(host)


def test_the_same_refusal_is_counted_and_not_listed_twice() -> None:
    refusals = RecentRefusals()
    for now_s in (1.0, 2.0, 5.0):
        refusals.note("host_not_allowed", "a.example", now_s)
    refusals.note("loop", "a.example", 3.0)
    refusals.note("host_not_allowed", "a.example", 6.0)
    assert refusals.recent() == [
        Refused("host_not_allowed", "a.example", 4, 6.0),
        Refused("loop", "a.example", 1, 3.0),
    ]


def test_only_the_last_ones_are_kept() -> None:
    refusals = RecentRefusals()
    refusals.note("malformed", "", 0.0)
    for number in range(LIMIT + 10):
        refusals.note("host_not_allowed", f"h{number}.example", float(number))
        refusals.note("malformed", "", float(number))
    recent = refusals.recent()
    assert len(recent) == LIMIT
    assert recent[0] == Refused("malformed", "", LIMIT + 11, LIMIT + 9.0)
    assert [each.host for each in recent[1:]] == [f"h{number}.example" for number in range(LIMIT + 9, 10, -1)]


def test_an_endless_host_takes_bounded_memory() -> None:
    refusals = RecentRefusals()
    refusals.note("host_not_allowed", "a" * 100_000, 0.0)
    assert len(refusals.recent()[0].host) < 300


@pytest.mark.parametrize("host", ["cdn.example.org", "192.0.2.7", "[2001:db8::7]"])
def test_the_setting_for_a_host_is_toml_that_allows_it(host: str) -> None:
    (entry,) = tomllib.loads(remedy("host_not_allowed", host).setting)["allow"]
    assert service_from_allow(entry).hosts == (host,)


@pytest.mark.parametrize("host", ["cdn.example.org:8530", "[2001:db8::7]:8530"])
def test_a_host_on_a_wrong_port_is_not_to_be_added_again(host: str) -> None:
    advice = remedy("host_not_allowed", host)
    assert advice.setting == ""
    assert "port" in advice.text


def _request_errors(kind: type[CacheserverError]) -> list[str]:
    return [kind.code, *(code for sub in kind.__subclasses__() for code in _request_errors(sub))]


def test_every_refusal_of_a_request_has_advice_of_its_own() -> None:
    codes = {*_request_errors(RequestError), AddressRefused.code} - {RequestError.code}
    texts = {remedy(code, "a.example").text for code in codes}
    assert len(texts) == len(codes)
    assert remedy("unheard_of", "").text not in texts
