"""Via: loops are found, and only nodes of this product are named upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.fields import Fields
from cacheserver.core.http.via import MAX_KEPT, append_via, passed_here, upstream_via, via_token

ME, OTHER = "0123456789abcdef", "fedcba9876543210"


def via(*lines: str) -> Fields:
    return Fields(("Via", line) for line in lines)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), False),
        (("1.1 proxy",), False),
        ((via_token(OTHER),), False),
        ((via_token(ME),), True),
        ((f"1.0 fred, HTTP/1.1 CacheServer-{ME.upper()} (comment)",), True),
        (("1.1 proxy", f"1.1\tcacheserver-{ME}"), True),
        ((f"1.1 cacheserver-{ME}0",), False),
        ((f"cacheserver-{ME}",), False),
    ],
)
def test_own_member_is_found(lines: tuple[str, ...], expected: bool) -> None:
    assert passed_here(via(*lines), ME) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "1.1 n"), ("", "1.1 n"), ("1.0 a", "1.0 a, 1.1 n"), ("a, b", "a, b, 1.1 n")]
)
def test_own_token_comes_last(value: str | None, expected: str) -> None:
    assert append_via(value, "1.1 n") == expected


@pytest.mark.parametrize(
    "foreign",
    ["1.1 proxy", "1.1 cacheserver-xyz", f"1.0 cacheserver-{OTHER}", f"{via_token(OTHER)} (note)", "1.1 a\r\nX: y"],
)
def test_foreign_members_do_not_go_upstream(foreign: str) -> None:
    assert upstream_via(via(foreign), ME) == via_token(ME)


def test_node_members_go_upstream_in_order() -> None:
    assert upstream_via(via(f"1.1 x, {via_token(OTHER)}"), ME) == f"{via_token(OTHER)}, {via_token(ME)}"


@given(st.integers(1, MAX_KEPT), st.integers(0, 40))
def test_a_loop_of_nodes_is_found_whatever_the_client_adds(nodes: int, invented: int) -> None:
    value = ", ".join(via_token(f"{1000 + n:016x}") for n in range(invented))
    for node in range(nodes):
        request = via(value) if value else via()
        assert not passed_here(request, f"{node:016x}")
        value = upstream_via(request, f"{node:016x}")
    assert value.count(",") <= MAX_KEPT
    assert passed_here(via(value), f"{0:016x}")
