"""Names to addresses as the node would find them, without its address policy: the doctor reports, it does not refuse.

Owns: how long a look-up may take, and TCP connections made only to see whether they work. DNS answers, failures too,
are kept for the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cacheserver.core.units import is_ip, parse_listen
from cacheserver.outgoing.resolver import Resolver, detached_lookup

_LOOKUP_S: Final = 6.0
_CONNECT_S: Final = 4.0
_MOST_ADDRESSES: Final = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host is; ``error`` is set when it has no address, ``overridden`` when ``connect_to`` says where."""

    addresses: tuple[tuple[str, int], ...]
    overridden: bool = False
    error: str = ""


class Dialer(Resolver):
    """Looks each host up once per run. Also the resolver of the doctor's HTTP session."""

    def __init__(self, connect_to: Mapping[str, str]) -> None:
        super().__init__(
            connect_to={key.lower(): parse_listen(value) for key, value in connect_to.items()},
            ttl_s=math.inf,
            failure_ttl_s=math.inf,
            lookup=_lookup,
        )

    async def place(self, host: str, port: int) -> Place:
        """Where ``host`` is asked on ``port``; never raises but for a cancellation."""
        override = self.override(host, port)
        if override is not None:
            return Place((override,), overridden=True)
        literal = host.removeprefix("[").removesuffix("]")
        if is_ip(literal):
            return Place(((literal, port),))
        try:
            addresses = await self.addresses(host)
        except OSError as exc:
            return Place((), error=exc.strerror or str(exc))
        return Place(tuple((address, port) for address in addresses))

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


async def _lookup(host: str) -> tuple[str, ...]:
    try:
        async with asyncio.timeout(_LOOKUP_S):
            return await detached_lookup(host)
    except TimeoutError:
        raise OSError(f"no answer from DNS within {_LOOKUP_S:g} s") from None


async def _attempt(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _reader, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer from {address} port {port} within {_CONNECT_S:g} s"
    except OSError as exc:
        return f"{address} port {port}: {reason_of(exc)}"
    await dropped(writer)
    return ""


async def dropped(writer: asyncio.StreamWriter) -> None:
    """Cut a connection and wait until its socket is closed."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def reason_of(exc: Exception) -> str:
    """What the system says of a failed connection, or else the error itself, on one line."""
    inner = getattr(exc, "os_error", exc)
    number = getattr(inner, "errno", None)
    text = os.strerror(number) if number and number > 0 else getattr(inner, "strerror", None) or str(inner)
    return " ".join(text.split())[:200] or type(exc).__name__
