"""Names to addresses as the node would find them, without its address policy: the doctor reports, it does not refuse.

Owns: ``upstream.connect_to``, DNS answers of this run, and TCP connections made only to see whether they work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from cacheserver.concurrency.daemon_thread import in_thread
from cacheserver.core.units import is_ip, parse_listen

_LOOKUP_S: Final = 6.0
_CONNECT_S: Final = 4.0
_MOST_ADDRESSES: Final = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host is; ``error`` is set when it has no address, ``overridden`` when ``connect_to`` says where."""

    addresses: tuple[tuple[str, int], ...]
    overridden: bool = False
    error: str = ""


class Dialer(AbstractResolver):
    """Looks each host up once. Also the resolver of the doctor's HTTP session."""

    def __init__(self, connect_to: Mapping[str, str]) -> None:
        self._overrides = {key.lower(): parse_listen(value) for key, value in connect_to.items()}
        self._queries: dict[str, asyncio.Task[tuple[str, ...] | OSError]] = {}

    async def place(self, host: str, port: int) -> Place:
        """Where ``host`` is asked on ``port``; never raises but for a cancellation."""
        override = self._overrides.get(f"{host}:{port}") or self._overrides.get(host)
        if override is not None:
            return Place((override,), overridden=True)
        literal = host.removeprefix("[").removesuffix("]")
        if is_ip(literal):
            return Place(((literal, port),))
        if host not in self._queries:
            self._queries[host] = asyncio.create_task(_query(host))
        try:
            async with asyncio.timeout(_LOOKUP_S):
                outcome = await asyncio.shield(self._queries[host])
        except TimeoutError:
            return Place((), error=f"no answer from DNS within {_LOOKUP_S:g} s")
        if isinstance(outcome, OSError):
            return Place((), error=outcome.strerror or str(outcome))
        return Place(tuple((address, port) for address in outcome))

    async def connect(self, host: str, port: int) -> str:
        """Open a TCP connection and close it; empty, or why it could not be opened."""
        place = await self.place(host, port)
        if place.error:
            return f"no address ({place.error})"
        attempts = [asyncio.create_task(_attempt(*address)) for address in place.addresses[:_MOST_ADDRESSES]]
        reason = "no address"
        try:
            for done in asyncio.as_completed(attempts):
                reason = await done
                if not reason:
                    break
        finally:
            for attempt in attempts:
                attempt.cancel()
        return reason

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """For aiohttp; raises OSError."""
        place = await self.place(host, port)
        if not place.addresses:
            raise OSError(place.error or "no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=number,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, number in place.addresses
        ]

    async def close(self) -> None:
        """Forget running queries."""
        for query in self._queries.values():
            query.cancel()
        await asyncio.gather(*self._queries.values(), return_exceptions=True)


async def _query(host: str) -> tuple[str, ...] | OSError:
    try:
        infos = await in_thread(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except OSError as exc:
        return exc
    except UnicodeError:
        return OSError("the name cannot be asked for")
    return tuple(dict.fromkeys(str(info[4][0]) for info in infos))


async def _attempt(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _reader, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer from {address} port {port} within {_CONNECT_S:g} s"
    except OSError as exc:
        return f"{address} port {port}: {_reason(exc)}"
    await dropped(writer)
    return ""


async def dropped(writer: asyncio.StreamWriter) -> None:
    """Cut a connection and wait until its socket is closed."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else (exc.strerror or str(exc))
