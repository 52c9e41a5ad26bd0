"""Who asks: a client's address, the listener that it came by and the subnet group that it is counted in.

Owns one small value that is made once per connection, so that an answer costs no look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.request.subnets import OTHER_SUBNET

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
