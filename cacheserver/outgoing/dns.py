"""Names to addresses by c-ares, which reads /etc/hosts and resolv.conf as the system does, and waits in no thread.

Owns: the questions for one name, and its addresses while only one of its families answers. Must not remember answers.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import aiodns
import pycares

from cacheserver.outgoing.resolver import Found

_BOTH_S: Final = 0.5
"""After this time the first family that answers is enough: some name servers never answer questions for AAAA."""
_MOST_S: Final = 15.0
_ALONE_S: Final = 10.0
"""Lifetime of the addresses of one family, when the other was silent."""
_NO_NAME: Final = (aiodns.error.ARES_ENODATA, aiodns.error.ARES_ENOTFOUND)


class DnsLookup:
    """A ``Lookup``; close it. ``resolver``: None for one that is as the machine's files say. Raises OSError."""

    def __init__(self, resolver: aiodns.DNSResolver | None = None) -> None:
        try:
            self._resolver = aiodns.DNSResolver() if resolver is None else resolver
        except pycares.AresError as exc:
            raise OSError("c-ares could not be started") from exc

    async def __call__(self, host: str) -> Found:
        """All addresses of ``host`` in the order of RFC 6724, at least one. Raises OSError."""
        try:
            async with asyncio.timeout(_MOST_S):
                return await self._found(host)
        except TimeoutError:
            raise OSError("no answer from DNS in time") from None

    async def _found(self, host: str) -> Found:
        both = asyncio.ensure_future(self._asked(host, socket.AF_UNSPEC))
        alone: list[asyncio.Future[Found]] = []
        try:
            await asyncio.wait((both,), timeout=_BOTH_S)
            if not both.done():
                alone = [asyncio.ensure_future(self._asked(host, f)) for f in (socket.AF_INET, socket.AF_INET6)]
            return await _first(both, alone)
        finally:
            for question in (both, *alone):
                question.cancel()
            await asyncio.gather(both, *alone, return_exceptions=True)

    async def _asked(self, host: str, family: socket.AddressFamily) -> Found:
        try:
            result = await self._resolver.getaddrinfo(host, family=family, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as exc:
            code, text = (*exc.args, None, "DNS failed")[:2]
            raise socket.gaierror(socket.EAI_NONAME if code in _NO_NAME else socket.EAI_AGAIN, text) from exc
        lifetime_s = min((node.ttl for node in result.nodes), default=0)
        return Found(tuple(dict.fromkeys(_shown(node.addr) for node in result.nodes)), lifetime_s)

    async def close(self) -> None:
        """End all questions."""
        await self._resolver.close()


async def _first(both: asyncio.Future[Found], alone: list[asyncio.Future[Found]]) -> Found:
    """Both families' addresses, or those of the first that has any; the error of both where there are none."""
    waiting = {both, *alone}
    while not both.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for question in done - {both}:
            if question.exception() is None and question.result().addresses:
                return Found(question.result().addresses, min(question.result().ttl_s, _ALONE_S))
    return both.result()


def _shown(address: tuple[object, ...]) -> str:
    """An address with its scope, which vetting refuses."""
    host = address[0].decode("ascii") if isinstance(address[0], bytes) else str(address[0])
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else host
