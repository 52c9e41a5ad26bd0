"""Names to vetted addresses: the node's resolver.

Owns: the address policy for every address that a connection may go to (I9). Must not choose sources or open
connections.

aiohttp never asks a resolver about IP literals: callers pass every host through ``vet_literal`` first. Neither error
raised here is an OSError, so aiohttp lets both through unchanged.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final

from aiohttp.abc import ResolveResult

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import AddressRefused, ConfigError, MalformedRequest, ResolveFailed
from cacheserver.core.request.addresses import Network, vet_address
from cacheserver.core.request.hostname import is_ip_literal, literal_address, parse_authority
from cacheserver.core.shown import shown
from cacheserver.logs.events import event, get_logger
from cacheserver.outgoing.resolver import Lookup, Resolver, detached_lookup

_log = get_logger(__name__)
_MAX_TOLD: Final = 1024
NEGATIVE_S: Final = 5.0
"""How long the node remembers that a name has no address, or that its DNS is silent."""


class VettedResolver(Resolver):
    """Returns only admitted addresses.

    An address that ``connect_to`` names needs no vetting. ``allowed_for`` gives the blocks that the operator permits
    for a host, and is asked each time. Raises ConfigError for an override that is not an IP address, and for one of an
    IP literal, which aiohttp would not honour.
    """

    def __init__(
        self,
        *,
        connect_to: Mapping[str, tuple[str, int]],
        allowed_for: Callable[[str], tuple[Network, ...]],
        ttl_s: float = 30.0,
        failure_ttl_s: float = 0.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        lookup: Lookup = detached_lookup,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        overrides = dict(_override(key, value) for key, value in connect_to.items())
        super().__init__(
            connect_to=overrides,
            ttl_s=ttl_s,
            failure_ttl_s=failure_ttl_s,
            monotonic_s=monotonic_s,
            lookup=lookup,
            on_close=on_close,
        )
        self._allowed_for = allowed_for
        self._told: BoundedMemory[str, bool] = BoundedMemory(_MAX_TOLD)
        """Hosts that the log has: one that is only a further source refuses no client anything."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Admitted addresses of ``host`` in DNS order, at least one.

        Raises ResolveFailed when there is no address (of this family), AddressRefused when all were refused.
        """
        try:
            found = await super().resolve(host, port, family)
        except OSError as exc:
            raise ResolveFailed(f"{host} cannot be resolved", source=f"{host}:{port}") from exc
        if self.override(host, port) is not None:
            return found
        allowed = self._allowed_for(host)
        vetted = [result for result in found if vet_address(result["host"], allowed)]
        if not vetted:
            if not self._told.get(host):
                event(_log, "address_refused", severity=logging.WARNING, host=host, remedy=AddressRefused.remedy)
            self._told.keep(host, True)
            raise AddressRefused(
                f"{host} resolves only to addresses that the address policy refuses", source=f"{host}:{port}"
            )
        return vetted

    def vet_literal(self, host: str, port: int) -> None:
        """Vet a canonical host that is an IP literal, with or without brackets; does nothing for names.

        For every request before it goes to aiohttp. Raises AddressRefused.
        """
        address = literal_address(f"[{host}]" if ":" in host and not host.startswith("[") else host)
        if address is not None and not vet_address(str(address), self._allowed_for(host)):
            raise AddressRefused(f"the address policy refuses {host}", source=f"{host}:{port}")


def _override(key: str, value: tuple[str, int]) -> tuple[str, tuple[str, int]]:
    where = f"upstream.connect_to.{key}"
    address, port = value
    try:
        named = parse_authority(key)
        target = str(ip_address(address)), port
    except MalformedRequest as exc:
        raise ConfigError(f"the key is not HOST or HOST:PORT: {exc}", key=where) from exc
    except ValueError as exc:
        raise ConfigError(f"{shown(address)!r} is not an IP address", key=where) from exc
    if is_ip_literal(named.host):
        raise ConfigError("an IP literal cannot be connected to elsewhere; name a host", key=where)
    return (named.host if named.port is None else f"{named.host}:{named.port}"), target
