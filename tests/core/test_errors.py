"""The error tree: each class has what its readers need."""

from __future__ import annotations

import pytest

from cacheserver.core.errors import (
    AddressRefused,
    BadContentRange,
    CacheserverError,
    ConfigError,
    PieceMismatch,
    RequestError,
    StoreError,
    UpstreamError,
    error_kinds,
    kind_of,
)

LISTED = [kind for kind in error_kinds() if issubclass(kind, RequestError) and kind is not RequestError]
"""Refusals of requests: the status page lists them, and an address that the policy refuses."""


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in error_kinds() if kind is not BadContentRange]  # a bad answer, by another name
    assert [kind for kind in kinds if "code" not in vars(kind)] == []
    assert len({kind.code for kind in kinds}) == len(kinds) > 30
    assert all(kind_of(kind.code) is kind for kind in kinds)
    assert kind_of("unheard_of") is CacheserverError


@pytest.mark.parametrize("kind", [*LISTED, AddressRefused])
def test_an_error_on_the_status_page_has_a_label_and_a_remedy_of_its_own(kind: type[CacheserverError]) -> None:
    assert {"label", "remedy"} <= vars(kind).keys()
    others = [other for other in error_kinds() if other is not kind]
    assert kind.label not in {other.label for other in others}
    assert kind.remedy not in {other.remedy for other in others}


@pytest.mark.parametrize("kind", error_kinds())
def test_a_wrong_setting_alone_has_the_exit_code_of_wrong_usage(kind: type[CacheserverError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, ConfigError) else 1)


OWN_STATUS = {
    "bad_request": 400,
    "malformed": 400,
    "host_not_allowed": 403,
    "method_not_allowed": 405,
    "method_unknown": 501,
    "version_unknown": 505,
    "head_too_long": 431,
    "body_refused": 413,
    "loop": 508,
    "draining": 503,
    "timeout": 504,
    "no_memory": 503,
}
NOT_RETRIED = {
    "address_refused",
    "certificate",
    "generation_changed",
    "no_memory",
    "no_source",
    "redirects",
    "wrong_content",
}


def test_every_error_has_the_status_that_clients_and_monitors_know() -> None:
    groups = ((UpstreamError, 502), (StoreError, 503), (CacheserverError, 500))
    for kind in error_kinds():
        usual = next(status for group, status in groups if issubclass(kind, group))
        assert kind.own_status == OWN_STATUS.get(kind.code, usual), kind


def test_only_what_another_try_can_mend_is_tried_again() -> None:
    kinds = [kind for kind in error_kinds() if issubclass(kind, UpstreamError)]
    assert {kind.code for kind in kinds if not kind.retryable} == NOT_RETRIED


def test_an_error_keeps_its_facts_and_says_them() -> None:
    bad = BadContentRange("another range", expected=1, got=2, source="s")
    assert (str(bad), bad.expected, bad.got, bad.source) == ("another range: expected 1, got 2", 1, 2, "s")
    mismatch = PieceMismatch(7, expected=b"a", got=b"b")
    assert (mismatch.piece, mismatch.expected, mismatch.got) == (7, b"a", b"b")
