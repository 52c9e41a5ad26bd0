"""Names to addresses, as an aiohttp resolver.

Owns: ``connect_to`` overrides, queries under way, DNS answers and their lifetime. Must not choose sources or open
connections, and has no policy of addresses: ``upstream.resolver`` adds it for the node.

Give the connector ``use_dns_cache=False``: its own cache would go on using addresses after the operator withdrew
permission.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import Draining

MAX_CACHED: Final = 1024
"""Hosts whose addresses are remembered; the oldest answer goes first."""

Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Asks DNS for all addresses of a host, as text; raises OSError or UnicodeError when there is no answer."""


async def system_lookup(host: str) -> tuple[str, ...]:
    """All addresses that the system's resolver gives for ``host``, in its order; runs in the default executor."""
    loop = asyncio.get_running_loop()
    return _unique(await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


async def detached_lookup(host: str) -> tuple[str, ...]:
    """The same in a daemon thread: a query that never ends does not delay the end of the process."""
    return _unique(await in_thread(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG))


class Resolver(AbstractResolver):
    """Asks DNS once for all callers and keeps the answer for ``ttl_s``, a failure for ``failure_ttl_s``.

    ``connect_to`` maps ``host:port`` or ``host`` to the address and port to use instead of DNS.
    """

    def __init__(
        self,
        *,
        connect_to: Mapping[str, tuple[str, int]],
        ttl_s: float = 30.0,
        failure_ttl_s: float = 0.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._connect_to = connect_to
        self._ttl_s = ttl_s
        self._failure_ttl_s = failure_ttl_s
        self._monotonic_s = monotonic_s
        self._lookup = lookup
        self._outcomes: BoundedMemory[str, tuple[str, ...] | OSError] = BoundedMemory(MAX_CACHED)
        self._queries: SingleFlight[str, tuple[str, ...] | OSError] = SingleFlight("lookup")

    def override(self, host: str, port: int) -> tuple[str, int] | None:
        """The address and port that ``connect_to`` names for ``host`` on ``port``."""
        return self._connect_to.get(f"{host}:{port}") or self._connect_to.get(host)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """All addresses of ``host`` in DNS order, at least one. Raises OSError."""
        outcome = self._outcomes.get(host, self._monotonic_s())
        if outcome is None:
            try:
                outcome = await self._queries.run(host, partial(self._query, host))
            except Draining:
                raise OSError("the resolver was closed") from None
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Where to connect to for ``host`` on ``port``, in DNS order, at least one place. Raises OSError."""
        override = self.override(host, port)
        if override is not None:
            return [_result(host, *override)]
        found = [_result(host, address, port) for address in await self.addresses(host)]
        wanted = [result for result in found if family in (socket.AF_UNSPEC, result["family"])]
        if not wanted:
            raise OSError("no address of this family")
        return wanted

    def vet_literal(self, host: str, port: int) -> None:
        """Admit a host that is an IP literal, about which aiohttp asks no resolver; here every one passes."""

    async def close(self) -> None:
        """Cancel running queries and wait for their end; answers are forgotten."""
        await self._queries.stop()
        self._outcomes.clear()

    async def _query(self, host: str) -> tuple[str, ...] | OSError:
        outcome: tuple[str, ...] | OSError
        try:
            outcome = tuple(await self._lookup(host)) or OSError("no address")
        except OSError as exc:
            outcome = exc
        except UnicodeError:
            outcome = OSError("the name cannot be put into a DNS query")
        lifetime_s = self._failure_ttl_s if isinstance(outcome, OSError) else self._ttl_s
        if lifetime_s > 0:
            self._outcomes.keep(host, outcome, self._monotonic_s() + lifetime_s)
        return outcome


def _unique(infos: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_shown(info[4]) for info in infos))


def _shown(sockaddr: tuple[object, ...]) -> str:
    # IPv6 socket addresses are (address, port, flow, scope); a scope makes the address local to one interface.
    address = str(sockaddr[0])
    return f"{address}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] and "%" not in address else address


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
