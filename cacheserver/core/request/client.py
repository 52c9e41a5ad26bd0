"""Who asks: a client's address, the listener that it came by and the subnet group that it is counted in.

Owns one small value, made when a connection begins and again at a reload, so that an answer costs no look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.request.subnets import OTHER_SUBNET, Subnets

PLAIN: Final = "plain"
TLS: Final = "tls"
LISTENERS: Final = (PLAIN, TLS)


@dataclass(frozen=True, slots=True)
class Client:
    """One client connection as metrics and logs see it."""

    address: str = ""
    """Without port; empty where the socket has none."""
    listener: str = PLAIN
    """One of ``LISTENERS``."""
    subnet: str = OTHER_SUBNET
    """Name of an operator's group, or ``other``."""

    @classmethod
    def of(cls, address: str, listener: str, subnets: Subnets) -> Client:
        """The client at ``address``."""
        return cls(address, listener, subnets.group_of(address))
