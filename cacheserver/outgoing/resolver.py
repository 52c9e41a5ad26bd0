"""Names to addresses, as an aiohttp resolver.

Owns: ``connect_to`` overrides, queries under way, DNS answers and their lifetime, when old ones are used. Must not
choose sources or open connections, and has no policy of addresses: ``upstream.resolver`` adds it for the node.

Give the connector ``use_dns_cache=False``: its own cache would go on using addresses after the operator withdrew
permission.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.bounded_memory import BoundedMemory

MAX_CACHED: Final = 1024
"""Hosts whose addresses are remembered, and those whose failures are; the oldest goes first."""
_LEAST_TTL_S: Final = 1.0
_OLD_S: Final = 6 * 3600.0
"""How long addresses are kept after their lifetime, for when DNS does not answer (RFC 8767)."""
_OLD_PATIENCE_S: Final = 0.3
"""How long DNS is waited for where there are old addresses."""
_PATIENCE_S: Final = 6.0
"""How long DNS is waited for; its answer counts later, too."""
_CROWD_PATIENCE_S: Final = 1.5
"""The same while many names are silent: each holds a request of a client, and of the node's requests upstream."""
_CROWD: Final = 8
_QUICK_S: Final = 1.0
_CERTAIN: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
"""What DNS says of a name without addresses; other failures may be over in a moment."""


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses with the time for which DNS says that they hold."""

    addresses: tuple[str, ...]
    ttl_s: float


Lookup: TypeAlias = Callable[[str], Awaitable[Found | Sequence[str]]]
"""Asks DNS for all addresses of a host, as text; raises OSError or UnicodeError when there is no answer."""


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: tuple[str, ...]
    fresh_until_s: float


async def detached_lookup(host: str) -> tuple[str, ...]:
    """All addresses that the system's resolver gives for ``host``, in its order; runs in a daemon thread.

    A query that never ends does not delay the end of the process.
    """
    return _unique(await in_thread(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG))


class Resolver(AbstractResolver):
    """Asks DNS once for all callers and keeps the answer for ``ttl_s`` at most, a failure for ``failure_ttl_s``.

    A failure that is not certain and came at once is kept for a tenth of that. Where DNS fails or is slow, addresses
    whose lifetime has ended are used. ``connect_to`` maps ``host:port`` or ``host`` to the address and port to use
    instead of DNS.
    """

    def __init__(
        self,
        *,
        connect_to: Mapping[str, tuple[str, int]],
        ttl_s: float = 30.0,
        failure_ttl_s: float = 0.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        lookup: Lookup = detached_lookup,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connect_to = connect_to
        self._ttl_s = ttl_s
        self._failure_ttl_s = failure_ttl_s
        self._monotonic_s = monotonic_s
        self._lookup = lookup
        self._on_close = on_close
        self._known: BoundedMemory[str, _Known] = BoundedMemory(MAX_CACHED)
        self._failures: BoundedMemory[str, OSError] = BoundedMemory(MAX_CACHED)
        self._queries: SingleFlight[str, tuple[str, ...] | OSError] = SingleFlight("lookup")
        self._begun_s: dict[str, float] = {}
        """When each query under way began."""

    def override(self, host: str, port: int) -> tuple[str, int] | None:
        """The address and port that ``connect_to`` names for ``host`` on ``port``."""
        return self._connect_to.get(f"{host}:{port}") or self._connect_to.get(host)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """All addresses of ``host`` in the order in which to try them, at least one. Raises OSError."""
        now_s = self._monotonic_s()
        known = self._known.get(host, now_s)
        if known is not None and now_s < known.fresh_until_s:
            return known.addresses
        outcome: tuple[str, ...] | OSError | None = self._failures.get(host, now_s)
        if outcome is None:
            outcome = await self._asked(host, now_s, _PATIENCE_S if known is None else _OLD_PATIENCE_S)
        if not isinstance(outcome, OSError):
            return outcome
        if known is None or outcome.errno in _CERTAIN:
            raise outcome
        return known.addresses

    async def _asked(self, host: str, now_s: float, patience_s: float) -> tuple[str, ...] | OSError:
        """What DNS says, if it does in time; one query serves all, and the patience of all begins with it."""
        query = self._queries.start(host, partial(self._query, host))
        begun_s = self._begun_s.setdefault(host, now_s)
        for limit_s in (min(patience_s, _CROWD_PATIENCE_S), patience_s):
            await asyncio.wait((query,), timeout=max(0.0, begun_s + limit_s - self._monotonic_s()))
            if query.cancelled():
                raise OSError("the resolver was closed")
            if query.done():
                return query.result()
            if self._crowded:
                break
        return OSError("no answer from DNS in time")

    @property
    def _crowded(self) -> bool:
        """Whether many names have been silent for a while: those that are asked for no longer wait much for theirs."""
        begun_s = next(islice(self._begun_s.values(), _CROWD - 1, None), None)
        return begun_s is not None and self._monotonic_s() - begun_s >= _CROWD_PATIENCE_S

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
        for memory in (self._known, self._failures):
            memory.clear()
        self._begun_s.clear()
        if self._on_close is not None:
            await self._on_close()

    async def _query(self, host: str) -> tuple[str, ...] | OSError:
        begun_s = self._monotonic_s()
        try:
            found = await self._lookup(host)
            if not isinstance(found, Found):
                found = Found(tuple(found), math.inf)
            if found.addresses:
                self._keep(host, found)
                return found.addresses
            failure = OSError("no address")
        except OSError as exc:
            failure = exc
        except UnicodeError:
            failure = OSError("the name cannot be put into a DNS query")
        finally:
            self._begun_s.pop(host, None)
        now_s, lifetime_s = self._monotonic_s(), self._failure_ttl_s
        if failure.errno in _CERTAIN:
            self._known.forget(host)
        elif now_s - begun_s < _QUICK_S:
            lifetime_s /= 10
        self._failures.keep(host, failure, now_s + lifetime_s)
        return failure

    def _keep(self, host: str, found: Found) -> None:
        self._failures.forget(host)
        lifetime_s = min(self._ttl_s, max(found.ttl_s, _LEAST_TTL_S))
        if lifetime_s > 0:
            fresh_until_s = self._monotonic_s() + lifetime_s
            self._known.keep(host, _Known(found.addresses, fresh_until_s), fresh_until_s + _OLD_S)


def _unique(infos: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_shown(info[4]) for info in infos))


def _shown(sockaddr: tuple[object, ...]) -> str:
    # IPv6 socket addresses are (address, port, flow, scope); a scope makes the address local to one interface.
    address = str(sockaddr[0])
    return f"{address}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] and "%" not in address else address


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
