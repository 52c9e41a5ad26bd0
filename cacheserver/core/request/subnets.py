"""Groups of client addresses that the operator names: which one an address belongs to.

Owns: the longest-prefix match over CIDR blocks. Must not see sockets or count anything. A look-up costs a few
microseconds; it is meant to be asked once per connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from cacheserver.core.request.addresses import parse_network

OTHER_SUBNET: Final = "other"
MAX_SUBNETS: Final = 32
"""Groups with series of their own."""


class Subnets:
    """Groups by name, each with its blocks. ValueError for a text that is no block, or one block in two groups."""

    def __init__(self, groups: Iterable[tuple[str, Sequence[str]]] = ()) -> None:
        self.names: tuple[str, ...] = ()
        by_length: dict[tuple[int, int], dict[int, str]] = {}
        for name, blocks in groups:
            self.names = (*self.names, name)
            for text in blocks:
                network = parse_network(text)
                table = by_length.setdefault((network.version, network.prefixlen), {})
                key = int(network.network_address)
                if table.setdefault(key, name) != name:
                    raise ValueError(f"{network} is in {table[key]} already")
        self._tables = {
            version: [
                (_mask(version, length), by_length[version, length])
                for length in sorted((n for v, n in by_length if v == version), reverse=True)
            ]
            for version in (4, 6)
        }

    def group_of(self, address: str) -> str:
        """The group with the longest block that holds ``address``; ``other`` for none, and for text that is no address.

        A zone (``fe80::1%eth0``) is left out of account, and an IPv4-mapped address counts as the IPv4 one.
        """
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return OTHER_SUBNET
        ip = _unmapped(ip)
        number = int(ip)
        for mask, groups in self._tables[ip.version]:
            name = groups.get(number & mask)
            if name is not None:
                return name
        return OTHER_SUBNET


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return ip if isinstance(ip, IPv4Address) else ip.ipv4_mapped or ip


def _mask(version: int, length: int) -> int:
    bits = 32 if version == 4 else 128
    return ((1 << length) - 1) << (bits - length)
