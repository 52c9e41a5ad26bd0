"""Memory for answers that name no length: they are collected before their head can be written.

Owns: the bound per answer. ``core.memory_budget`` has the bound in all, so that no number of them fills the machine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cacheserver.core.memory_budget import Lease, MemoryBudget, Use
from cacheserver.ports import UpstreamAnswer

TOTAL_FACTOR = 4
"""Bodies in memory have so many times the room that one may have."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Body bytes so far, whether they are all, and their room in memory: close it when they are sent."""

    data: bytes
    complete: bool
    lease: Lease


class BodyBuffer:
    """Collects bodies of at most ``limit_bytes`` each."""

    def __init__(self, *, limit_bytes: int, budget: MemoryBudget) -> None:
        self._limit_bytes = limit_bytes
        self.budget = budget

    async def collect(
        self,
        answer: UpstreamAnswer,
        client: str,
        *,
        limit_s: float,
        prefix: bytes = b"",
        limit_bytes: int | None = None,
    ) -> Collected:
        """Read until the end, a bound or ``limit_s`` is reached; ``prefix`` was read before. It is for one client.

        Closes the answer when reading fails. UpstreamError.
        """
        chunks, size = [prefix], len(prefix)
        most = self._limit_bytes if limit_bytes is None else limit_bytes
        deadline_s = asyncio.get_running_loop().time() + limit_s
        lease = self.budget.lease(Use.COLLECTED, client)
        try:
            has_room = lease.grow(len(prefix))
            while has_room and size < most and asyncio.get_running_loop().time() < deadline_s:
                data = await answer.read()
                if not data:
                    return Collected(b"".join(chunks), True, lease)
                chunks.append(data)
                size += len(data)
                has_room = lease.grow(len(data))
            return Collected(b"".join(chunks), False, lease)
        except BaseException:
            lease.close()
            answer.close()
            raise
