"""On which TCP ports a service's origins are asked.

Owns: the shipped services that clients want over https; everything else follows from the service's own rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.request.service import Service

_BOTH_SCHEMES: Final = frozenset(("intune", "teams"))
"""Shipped services whose clients ask by https; those of the others ask by http."""


@dataclass(frozen=True, slots=True)
class OriginPorts:
    """``required`` must be open; ``optional`` are used by clients that ask the node over TLS."""

    required: tuple[int, ...]
    optional: tuple[int, ...] = ()


def origin_ports(service: Service) -> OriginPorts:
    """The ports of ``service``; without a scheme of its own it is asked as the client asked (80, 443)."""
    if service.port is not None:
        return OriginPorts((service.port,))
    if service.scheme == "https":
        return OriginPorts((443,))
    if service.scheme == "http":
        return OriginPorts((80,))
    if service.name in _BOTH_SCHEMES and not service.own:
        return OriginPorts((80, 443))
    return OriginPorts((80,), (443,))
