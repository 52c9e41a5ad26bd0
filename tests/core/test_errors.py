"""The error tree: each class has what its readers need."""

from __future__ import annotations

import pytest

from cacheserver.core.errors import (
    AddressRefused,
    BadContentRange,
    CacheserverError,
    ConfigError,
    RequestError,
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
