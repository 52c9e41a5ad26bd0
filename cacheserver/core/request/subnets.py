"""Groups of client addresses that the operator names: which one an address belongs to.

Owns: the longest-prefix match over CIDR blocks. Must not see sockets or count anything. A look-up costs a few
microseconds; it is meant to be asked once per connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from cacheserver.core.request.addresses import parse_network

OTHER_SUBNET: Final = "other"
MAX_SUBNETS: Final = 1024
"""Groups with series of their own."""


class Subnets:
    """Groups by name, each with its blocks. ValueError for a text that is no block, or one block in two groups."""

    def __init__(self, groups: Iterable[tuple[str, Sequence[str]]] = ()) -> None:
        self.names: tuple[str, ...] = ()
        tables: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        for name, blocks in groups:
            self.names = (*self.names, name)
            for text in blocks:
                network = parse_network(text)
                table = tables[network.version].setdefault(int(network.netmask), {})
                key = int(network.network_address)
                if table.setdefault(key, name) != name:
                    raise ValueError(f"{network} is in {table[key]} already")
        # By IP version: masks, the longest first, each with the groups by their block's number.
        self._tables = {version: sorted(by_mask.items(), reverse=True) for version, by_mask in tables.items()}

    def group_of(self, address: str) -> str:
        """The group with the longest block that holds ``address``; ``other`` for none, and for text that is no address.

        A zone (``fe80::1%eth0``) is left out of account, and an IPv4-mapped address counts as the IPv4 one.
        """
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return OTHER_SUBNET
        if isinstance(ip, IPv6Address):
            ip = ip.ipv4_mapped or ip
        number = int(ip)
        for mask, groups in self._tables[ip.version]:
            name = groups.get(number & mask)
            if name is not None:
                return name
        return OTHER_SUBNET
