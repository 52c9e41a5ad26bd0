"""Which group of subnets an address is counted in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.request.subnets import Subnets

GROUPS = Subnets(
    [
        ("campus", ["10.0.0.0/8", "2001:db8::/32"]),
        ("labs", ["10.20.0.0/16", "2001:db8:20::/48"]),
        ("door", ["10.20.30.40"]),
        ("link", ["fe80::/10"]),
    ]
)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.1.2.3", "campus"),
        ("10.20.1.1", "labs"),
        ("10.20.30.40", "door"),
        ("10.20.30.41", "labs"),
        ("11.0.0.0", "other"),
        ("2001:db8:1::1", "campus"),
        ("2001:db8:20::1", "labs"),
        ("2001:db9::", "other"),
        ("::ffff:10.20.30.40", "door"),
        ("::ffff:192.0.2.1", "other"),
        ("fe80::1%eth0", "link"),
        ("", "other"),
        ("client.example", "other"),
    ],
)
def test_the_longest_block_that_holds_the_address_wins(address: str, group: str) -> None:
    assert GROUPS.group_of(address) == group


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=8), st.integers(0, 2**32 - 1))
def test_the_table_agrees_with_a_search_through_all_blocks(blocks: list[tuple[int, int]], client: int) -> None:
    networks = sorted(
        {ipaddress.IPv4Network((start, length), strict=False) for start, length in blocks}, key=lambda n: n.prefixlen
    )
    groups = Subnets([(f"g{number}", [str(network)]) for number, network in enumerate(networks)])
    address = ipaddress.IPv4Address(client)
    holding = [f"g{number}" for number, network in enumerate(networks) if address in network]
    assert groups.group_of(str(address)) == (holding[-1] if holding else "other")


def test_everything_is_other_without_groups() -> None:
    assert Subnets().group_of("192.0.2.1") == "other"


@pytest.mark.parametrize(
    "groups",
    [[("a", ["10.0.0.0/8"]), ("b", ["10.0.0.0/8"])], [("a", ["10.0.0.1/8"])], [("a", ["ten"])]],
)
def test_blocks_that_cannot_be_told_apart_or_are_none_are_refused(groups: list[tuple[str, list[str]]]) -> None:
    with pytest.raises(ValueError):
        Subnets(groups)
