"""Address policy: what the node never connects to, unless the operator says so."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.request import addresses
from cacheserver.core.request.addresses import parse_network, vet_address, written_block

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "13.107.4.50",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.1.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a01:111:2000::1",
    "2001:200::1",
    "2003::1",
    "2620:1ec:bdf::1",
]

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::808:808",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:0:808:808",
    "64:ff9b::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:53aa:64c:0:fbfe::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:30::1",
    "2001:db8::1",
    "2002:808:808::1",
    "2002:7f00:1::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "e000::1",
    "fe80::1%eth0",
    "2606:4700:4700::1111%eth0",
    "2606:4700:4700::1111%1",
]

NO_ADDRESS = ["", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "8.8.8.8/32", " 8.8.8.8", "8.8.8.8\n", "%"]


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_admitted(ip: str) -> None:
    assert vet_address(ip, ())


@pytest.mark.parametrize("ip", REFUSED)
def test_special_addresses_are_refused(ip: str) -> None:
    assert not vet_address(ip, ())


@pytest.mark.parametrize("ip", sorted(set(REFUSED) - {"4000::1", "e000::1"}))
def test_the_table_alone_refuses_them_whatever_the_library_calls_global(
    ip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (IPv4Address, IPv6Address):
        monkeypatch.setattr(kind, "is_global", True)
    monkeypatch.setattr(addresses, "_GLOBAL_UNICAST_V6", IPv6Network("::/0"))
    assert not vet_address(ip, ())


@pytest.mark.parametrize("ip", NO_ADDRESS)
def test_text_that_is_no_address_is_refused_whatever_is_allowed(ip: str) -> None:
    assert not vet_address(ip, (parse_network("0.0.0.0/0"), parse_network("::/0")))


@pytest.mark.parametrize(
    ("ip", "block", "admitted"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("::1", "::1/128", True),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "10.0.0.0/8", False),
        ("::ffff:10.0.0.1", "10.0.0.0/8", False),
        ("8.8.8.8", "10.0.0.0/8", True),
        ("fe80::1", "fe80::/10", True),
        ("fe80::1%eth0", "fe80::/10", False),
        ("169.254.169.254", "169.254.169.254/32", True),
    ],
)
def test_the_operators_blocks_admit_exactly_themselves(ip: str, block: str, admitted: bool) -> None:
    assert vet_address(ip, (parse_network(block),)) is admitted


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "fe80::%1/64", "any", "*"])
def test_bad_blocks_raise_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_network(text)


@given(st.ip_addresses(v=4))
def test_no_wrapping_of_an_ipv4_address_in_ipv6_is_admitted(address: IPv4Address) -> None:
    number = int(address)
    wrapped = [
        number,
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80) | 1,
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
    ]
    assert not any(vet_address(str(IPv6Address(value)), ()) for value in wrapped)


@given(st.ip_addresses())
def test_nothing_that_is_not_global_unicast_is_admitted(address: IPv4Address | IPv6Address) -> None:
    if vet_address(str(address), ()):
        assert address.is_global
        assert not any((address.is_private, address.is_multicast, address.is_reserved, address.is_loopback))


@pytest.mark.parametrize("host", ["10.0.0.5", "192.168.1.9", "100.64.0.7", "127.0.0.1", "::1", "fd00::5", "172.16.0.1"])
def test_a_private_address_that_is_written_is_permitted(host: str) -> None:
    assert vet_address(host, written_block(host))
    assert not vet_address(host)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fe80::1%eth0",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "2002:0a00:0001::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "localhost",
        "mirror.example",
        "127.1",
    ],
)
def test_writing_a_name_or_an_address_that_nobody_means_permits_nothing(host: str) -> None:
    assert written_block(host) == ()


def test_a_public_address_needs_no_permission() -> None:
    assert written_block("8.8.8.8") == ()
    assert vet_address("8.8.8.8")
