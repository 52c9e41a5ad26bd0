"""A resolver of the node on a table in place of DNS, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from cacheserver.core.request.addresses import Network, parse_network
from cacheserver.upstream.resolver import VettedResolver

LOOPBACK = (parse_network("127.0.0.0/8"), parse_network("::1"))


class Dns:
    """Answers from a table, counts questions, and can hold answers back until it is opened."""

    def __init__(self, **table: Sequence[str] | Exception) -> None:
        self.table = {name.replace("_", "."): answer for name, answer in table.items()}
        self.asked: list[str] = []
        self.questions: asyncio.Queue[str] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.questions.put_nowait(host)
        await self.gate.wait()
        answer = self.table.get(host, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def make(
    dns: Dns,
    *,
    allowed: tuple[Network, ...] = (),
    connect_to: dict[str, tuple[str, int]] | None = None,
    clock: Clock | None = None,
    ttl_s: float = 30.0,
) -> VettedResolver:
    return VettedResolver(
        connect_to=connect_to or {},
        allowed_for=lambda host: allowed,
        ttl_s=ttl_s,
        monotonic_s=clock or Clock(),
        lookup=dns,
    )


async def addresses(resolver: VettedResolver, host: str, port: int = 80) -> list[tuple[str, int]]:
    return [(result["host"], result["port"]) for result in await resolver.resolve(host, port)]
