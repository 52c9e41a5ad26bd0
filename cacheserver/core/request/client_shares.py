"""How many of a shared thing one client may have: who counts as one client, and which networks stand for many.

Owns: the client that an address belongs to (an IPv4 address, or an IPv6 /64: its holder has all of it), and the
operator's networks with their number of clients. Pure; must not count anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from cacheserver.core.request.subnets import Subnets

_V6_PREFIX: Final = 64


def client_of(address: str) -> str:
    """The client that an address belongs to; text that is no address stands for itself.

    A zone is left out of account, and an IPv4-mapped address counts as the IPv4 one.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip_network((ip, _V6_PREFIX), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)


class SharedNetworks:
    """Networks behind which many clients share an address. ValueError for a bad block, or one that is named twice."""

    def __init__(self, entries: Iterable[tuple[Sequence[str], int]] = ()) -> None:
        numbered = [(str(number), networks, clients) for number, (networks, clients) in enumerate(entries)]
        self._networks = Subnets((name, networks) for name, networks, _ in numbered)
        self._clients = {name: clients for name, _, clients in numbered}

    def clients_at(self, address: str) -> int:
        """As how many clients an address counts: of the longest block that holds it, else 1."""
        return self._clients.get(self._networks.group_of(address), 1) if self._clients else 1
