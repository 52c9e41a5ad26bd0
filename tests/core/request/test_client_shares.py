"""Who counts as one client, and as how many an address counts."""

from __future__ import annotations

import pytest

from cacheserver.core.request.client_shares import SharedNetworks, client_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("", "192.0.2.1", False),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_64(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


def test_an_address_counts_as_the_longest_block_says_and_else_as_one() -> None:
    shared = SharedNetworks([(("192.0.2.0/24", "2001:db8::/32"), 200), (("192.0.2.9/32",), 3)])
    assert [shared.clients_at(address) for address in ("192.0.2.1", "192.0.2.9", "2001:db8::1", "203.0.113.1", "")] == [
        200, 3, 200, 1, 1,
    ]  # fmt: skip
