"""Cache-Status members as structured fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.cache_status import cache_status, forwarded_status


def test_hit_and_miss_are_spelled_as_in_rfc_9211() -> None:
    assert cache_status("ExampleCache", hit=True, ttl_s=376) == "ExampleCache; hit; ttl=376"
    assert cache_status("n", hit=False, fwd="stale", fwd_status=304, collapsed=True) == (
        "n; fwd=stale; fwd-status=304; collapsed"
    )
    assert cache_status("n", hit=False, fwd="uri-miss", stored=True, detail="partial") == (
        "n; fwd=uri-miss; stored; detail=partial"
    )
    assert cache_status("n", hit=False, fwd="miss", stored=False) == "n; fwd=miss; stored=?0"
    assert cache_status("n", hit=True, ttl_s=-412) == "n; hit; ttl=-412"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cacheserver-1a", "cacheserver-1a"),
        ("1a", '"1a"'),
        ("two words", '"two words"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\r\nX: y\u20ac", '"a??X: y?"'),
        ("", '""'),
    ],
)
def test_names_and_details_are_tokens_or_escaped_strings(text: str, expected: str) -> None:
    assert cache_status(text, hit=True) == f"{expected}; hit"
    assert cache_status("n", hit=True, detail=text) == f"n; hit; detail={expected}"


def test_integers_stay_in_the_range_of_structured_fields() -> None:
    assert cache_status("n", hit=True, ttl_s=10**20) == "n; hit; ttl=999999999999999"


@pytest.mark.parametrize(("hit", "fwd"), [(True, "miss"), (False, "not a token"), (False, "")])
def test_contradictions_are_refused(hit: bool, fwd: str) -> None:
    with pytest.raises(ValueError):
        cache_status("n", hit=hit, fwd=fwd)


@given(st.text(max_size=30))
def test_no_detail_can_leave_the_line(detail: str) -> None:
    assert all(" " <= char <= "~" for char in cache_status("n", hit=True, detail=detail))


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (None, None),
        ("", None),
        (cache_status("cacheserver", hit=False, fwd="miss", fwd_status=404), 404),
        (cache_status("cacheserver", hit=False, fwd="miss", fwd_status=503, detail="x; fwd-status=200"), 503),
        ("origin; fwd=miss; fwd-status=404, cacheserver; fwd=miss", None),
        ("origin; fwd=miss, cacheserver; fwd=miss;fwd-status=410", 410),
        ("cacheserver; fwd-status=200", None),
        ("cacheserver; fwd-status=4044", None),
        ("cacheserver; xfwd-status=404", None),
    ],
)
def test_only_a_refusal_of_the_nearest_caches_own_source_is_told(value: str | None, status: int | None) -> None:
    assert forwarded_status(value) == status
