"""Address policy: which addresses the node may connect to (invariant I9).

Owns: one explicit table of address blocks that are not the public Internet, the decision over one address, and what an
address permits that the operator wrote. A block that the operator permits for a host wins over the table. Must not
resolve names or know services.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from cacheserver.core.shown import shown

Network: TypeAlias = IPv4Network | IPv6Network

# The table does not lean on ``ipaddress.is_global``: that property differs between Python versions and calls 6to4,
# NAT64 and multicast addresses global. It is asked besides.
_REFUSED_V4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network, RFC 791 and RFC 1122 §3.2.1.3; 0.0.0.0 reaches the machine itself
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; holds cloud metadata services too
        "127.0.0.0/8",  # loopback, RFC 1122
        "168.63.129.16/32",  # metadata and agent service of one cloud, on a public address
        "169.254.0.0/16",  # link-local, RFC 3927; 169.254.169.254 is the usual metadata service
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relay anycast, deprecated by RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "233.252.0.0/24",  # documentation (multicast), RFC 6676
        "240.0.0.0/4",  # reserved, RFC 1112 §4; ends in limited broadcast, RFC 919
    )
)
_REFUSED_V6: Final = tuple(
    IPv6Network(block)
    for block in (
        "::/128",  # unspecified, RFC 4291 §2.5.2
        "::1/128",  # loopback, RFC 4291 §2.5.3
        "::/96",  # IPv4-compatible, deprecated by RFC 4291 §2.5.5.1
        "::ffff:0:0/96",  # IPv4-mapped, RFC 4291 §2.5.5.2
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765 §2.1
        "64:ff9b::/96",  # NAT64, RFC 6052: would reach any IPv4 address behind the translator
        "64:ff9b:1::/48",  # local-use NAT64, RFC 8215
        "100::/64",  # discard only, RFC 6666
        "100:0:0:1::/64",  # dummy prefix, RFC 9780
        "2001::/23",  # IETF protocol assignments, RFC 2928: all of the next five
        "2001::/32",  # Teredo, RFC 4380: carries an IPv4 address
        "2001:2::/48",  # benchmarks, RFC 5180
        "2001:10::/28",  # ORCHID, RFC 4843
        "2001:20::/28",  # ORCHIDv2, RFC 7343
        "2001:30::/28",  # drone identifiers, RFC 9374
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056: carries an IPv4 address
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing identifiers, RFC 9602
        "fc00::/7",  # unique local, RFC 4193; fd00:ec2::254 is a metadata service
        "fe80::/10",  # link-local, RFC 4291 §2.5.6
        "fec0::/10",  # site-local, deprecated by RFC 3879
        "ff00::/8",  # multicast, RFC 4291 §2.7
    )
)
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
"""The only block from which public IPv6 addresses are given out (RFC 4291 §2.4, IANA registry)."""


_METADATA: Final = tuple(
    ip_network(block)
    for block in (
        "100.100.100.200/32",  # metadata services of clouds, on addresses that look like others
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "64:ff9b:1::/48",  # local-use NAT64: carries another address
    )
)


def written_block(host: str) -> tuple[Network, ...]:
    """The block that an operator permits by writing an IP literal, without brackets, as the host of a source.

    Empty for names, and for addresses that nobody means as a source: link-local ones, metadata services, those that
    carry another address, unspecified and multicast ones.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    odd = address.is_link_local or address.is_unspecified or address.is_multicast
    carries = address.version == 6 and (address.ipv4_mapped or address.sixtofour or address.teredo)
    if "%" in host or odd or carries or any(address in block for block in _METADATA):
        return ()
    return () if address.is_global else (ip_network(address),)


def parse_network(text: str) -> Network:
    """A CIDR block, or one address as a block of one. Raises ValueError, also for host bits and zones."""
    if "%" in text:
        raise ValueError("a block cannot have a zone")
    try:
        return ip_network(text)
    except ValueError as exc:
        reason = str(exc) if "host bits" in str(exc) else f"{shown(text)!r} is no address and no network"
        raise ValueError(reason) from exc


def vet_address(ip: str, allowed: tuple[Network, ...] = ()) -> bool:
    """Whether the node may connect to ``ip``, an address as text without brackets.

    Public unicast addresses are admitted; all others only inside a block of ``allowed``. Text that is no address, and
    an address with a zone (``fe80::1%eth0``, RFC 4007), is never admitted.
    """
    if "%" in ip:
        return False
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if any(address in network for network in allowed):
        return True
    if not address.is_global:
        return False
    if address.version == 4:
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _REFUSED_V6)
