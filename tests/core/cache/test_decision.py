"""The next step of a request, as a table."""

from __future__ import annotations

from itertools import product

import pytest

from cacheserver.core.cache.decision import Facts, Step, decide
from cacheserver.core.cache.freshness import Freshness
from cacheserver.core.http.cache_control import CacheControl
from cacheserver.core.request.service import Service

RFC = Service(name="own", hosts=("a.test",), own=True)
SHIPPED = Service(name="shipped", hosts=("b.test",), lifetime="immutable")
UNCACHED = Service(name="none", hosts=("c.test",), cacheable=False, own=True)
PLAIN = CacheControl()
ONLY_IF_CACHED = CacheControl(only_if_cached=True)
FRESH = Freshness(1.0, 60.0, True, False, False)
STALE = Freshness(90.0, 60.0, False, False, False)
STALE_IF_ERROR = Freshness(90.0, 60.0, False, False, True)
STALE_NOW = Freshness(90.0, 60.0, False, True, True)


@pytest.mark.parametrize(
    ("method", "service", "freshness", "passes", "request_", "expected"),
    [
        ("GET", RFC, None, False, PLAIN, Step.OPEN),
        ("GET", RFC, None, True, PLAIN, Step.PASS),
        ("HEAD", RFC, None, False, PLAIN, Step.PASS),
        ("GET", RFC, None, False, ONLY_IF_CACHED, Step.ONLY_IF_CACHED),
        ("GET", RFC, None, True, ONLY_IF_CACHED, Step.ONLY_IF_CACHED),
        ("GET", SHIPPED, None, False, ONLY_IF_CACHED, Step.OPEN),
        ("GET", RFC, FRESH, False, PLAIN, Step.SERVE),
        ("HEAD", RFC, FRESH, False, PLAIN, Step.SERVE),
        ("GET", RFC, FRESH, True, PLAIN, Step.SERVE),
        ("GET", RFC, FRESH, False, ONLY_IF_CACHED, Step.SERVE),
        ("GET", RFC, STALE, False, PLAIN, Step.REVALIDATE),
        ("HEAD", RFC, STALE, False, PLAIN, Step.REVALIDATE),
        ("GET", RFC, STALE, True, PLAIN, Step.REVALIDATE),
        ("GET", RFC, STALE, False, ONLY_IF_CACHED, Step.ONLY_IF_CACHED),
        ("GET", SHIPPED, STALE, False, ONLY_IF_CACHED, Step.REVALIDATE),
        ("GET", RFC, STALE_IF_ERROR, False, PLAIN, Step.REVALIDATE),
        ("GET", RFC, STALE_NOW, False, PLAIN, Step.SERVE_STALE),
        ("GET", RFC, STALE_NOW, False, ONLY_IF_CACHED, Step.SERVE_STALE),
    ],
)
def test_the_step_follows_from_the_facts(
    method: str, service: Service, freshness: Freshness | None, passes: bool, request_: CacheControl, expected: Step
) -> None:
    assert decide(Facts(method, service, freshness, passes, request_)) is expected


@pytest.mark.parametrize(
    ("method", "freshness", "passes", "request_"),
    list(product(("GET", "HEAD"), (None, FRESH, STALE, STALE_NOW), (False, True), (PLAIN, ONLY_IF_CACHED))),
)
def test_an_uncacheable_service_always_passes(
    method: str, freshness: Freshness | None, passes: bool, request_: CacheControl
) -> None:
    assert decide(Facts(method, UNCACHED, freshness, passes, request_)) is Step.PASS
