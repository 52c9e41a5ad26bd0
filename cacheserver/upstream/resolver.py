"""Names to vetted addresses, as an aiohttp resolver.

Owns: DNS answers and their lifetime, ``connect_to`` overrides, and the address policy for every address that a
connection may go to (I9). Must not choose sources or open connections.

aiohttp never asks a resolver about IP literals: callers pass every host through ``vet_literal`` first. Give the
connector ``use_dns_cache=False``; its own cache would go on using addresses after the operator withdrew permission.
Neither error raised here is an OSError, so aiohttp lets both through unchanged.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

from cacheserver.core.errors import AddressRefused, ConfigError, MalformedRequest, ResolveFailed
from cacheserver.core.request.addresses import Network, vet_address
from cacheserver.core.request.hostname import is_ip_literal, literal_address, parse_authority

MAX_CACHED: Final = 1024
"""Hosts whose addresses are remembered; the oldest answer goes first."""

Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Asks DNS for all addresses of a host, as text; raises OSError when there is no answer."""


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[str, ...]
    expires_s: float


def vet_literal(host: str, allowed: tuple[Network, ...] = ()) -> None:
    """Vet a canonical host that is an IP literal, with or without brackets; does nothing for names.

    Raises AddressRefused when the policy refuses the address.
    """
    address = literal_address(f"[{host}]" if ":" in host and not host.startswith("[") else host)
    if address is not None and not vet_address(str(address), allowed):
        raise AddressRefused(f"the address policy refuses {host}", source=host)


async def system_lookup(host: str) -> tuple[str, ...]:
    """All addresses that the system's resolver gives for ``host``, in its order; runs in the default executor."""
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as exc:
        raise OSError("the host cannot be put into a DNS query") from exc
    return tuple(dict.fromkeys(_shown(info[4]) for info in infos))


class VettedResolver(AbstractResolver):
    """Resolves each host once for all who ask, keeps the answer for ``ttl_s``, returns only admitted addresses.

    ``connect_to`` maps ``host:port`` or ``host`` to the address and port to use instead, which needs no vetting;
    ``allowed_for`` gives the blocks that the operator permits for a host, and is asked each time. Raises ConfigError
    for an override that is not an IP address, and for one of an IP literal, which aiohttp would not honour.
    """

    def __init__(
        self,
        *,
        connect_to: Mapping[str, tuple[str, int]],
        allowed_for: Callable[[str], tuple[Network, ...]],
        ttl_s: float = 30.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._connect_to = dict(_override(key, value) for key, value in connect_to.items())
        self._allowed_for = allowed_for
        self._ttl_s = ttl_s
        self._monotonic_s = monotonic_s
        self._lookup = lookup
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._queries: dict[str, asyncio.Task[tuple[str, ...] | OSError]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Admitted addresses of ``host`` in DNS order, at least one.

        Raises ResolveFailed when there is no address (of this family), AddressRefused when all were refused.
        """
        override = self._connect_to.get(f"{host}:{port}") or self._connect_to.get(host)
        if override is not None:
            return [_result(host, *override)]
        found = await self._addresses(host, port)
        wanted = [address for address in found if family in (socket.AF_UNSPEC, _family(address))]
        if not wanted:
            raise ResolveFailed(f"{host} has no address", source=f"{host}:{port}")
        allowed = self._allowed_for(host)
        vetted = [address for address in wanted if vet_address(address, allowed)]
        if not vetted:
            raise AddressRefused(
                f"{host} resolves only to addresses that the address policy refuses", source=f"{host}:{port}"
            )
        return [_result(host, address, port) for address in vetted]

    def vet_literal(self, host: str, port: int) -> None:
        """Vet a canonical host that is an IP literal by what ``allowed_for`` gives for it; does nothing for names.

        For every request before it goes to aiohttp. Raises AddressRefused.
        """
        try:
            vet_literal(host, self._allowed_for(host))
        except AddressRefused as exc:
            raise AddressRefused(str(exc), source=f"{host}:{port}") from None

    async def close(self) -> None:
        """Cancel running queries and wait for their end; answers are forgotten."""
        queries = tuple(self._queries.values())
        for query in queries:
            query.cancel()
        await asyncio.gather(*queries, return_exceptions=True)
        self._answers.clear()

    async def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        answer = self._answers.get(host)
        if answer is not None and self._monotonic_s() < answer.expires_s:
            return answer.addresses
        query = self._queries.get(host)
        if query is None:
            query = asyncio.create_task(self._query(host))
            self._queries[host] = query
            query.add_done_callback(lambda _: self._queries.pop(host, None))
        try:
            # Shielded: one client that leaves must not take the answer from the others.
            outcome = await asyncio.shield(query)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if query.cancelled() and asker is not None and not asker.cancelling():
                raise ResolveFailed(f"{host}: the resolver was closed", source=f"{host}:{port}") from None
            raise
        if isinstance(outcome, OSError):
            raise ResolveFailed(f"{host} cannot be resolved", source=f"{host}:{port}") from outcome
        return outcome

    async def _query(self, host: str) -> tuple[str, ...] | OSError:
        try:
            addresses = tuple(await self._lookup(host))
        except OSError as exc:
            # Returned, not raised: when all askers have left, asyncio would log it as an exception nobody awaited.
            return exc
        if addresses and self._ttl_s > 0:
            self._answers[host] = _Answer(addresses, self._monotonic_s() + self._ttl_s)
            self._answers.move_to_end(host)
            while len(self._answers) > MAX_CACHED:
                self._answers.popitem(last=False)
        return addresses


def _override(key: str, value: tuple[str, int]) -> tuple[str, tuple[str, int]]:
    where = f"upstream.connect_to.{key}"
    address, port = value
    try:
        named = parse_authority(key)
        target = str(ip_address(address)), port
    except MalformedRequest as exc:
        raise ConfigError(f"the key is not HOST or HOST:PORT: {exc}", key=where) from exc
    except ValueError as exc:
        raise ConfigError(f"{address!r} is not an IP address", key=where) from exc
    if is_ip_literal(named.host):
        raise ConfigError("an IP literal cannot be connected to elsewhere; name a host", key=where)
    return (named.host if named.port is None else f"{named.host}:{named.port}"), target


def _shown(sockaddr: tuple[object, ...]) -> str:
    # IPv6 socket addresses are (address, port, flow, scope); a scope makes the address local to one interface.
    address = str(sockaddr[0])
    return f"{address}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] and "%" not in address else address


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host, host=address, port=port, family=_family(address), proto=0, flags=socket.AI_NUMERICHOST
    )
