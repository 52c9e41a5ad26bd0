"""When bytes may flow: gates that a test opens, and token buckets.

Owns the waiting of the test origin. Must not know what HTTP is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
"""How long a test waits for something that must happen, before it fails; long, for a busy machine."""


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until ``holds``; TimeoutError when it never does.

    Only for facts of another process that announces them in no way; everything else is awaited.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


class Gate:
    """Holds answers of one path until a test opens it.

    Without ``at`` the head is held; with it, the object's bytes from that offset on are.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.held = 0
        """Answers that have reached the gate so far, whether or not it was open."""
        self._open = asyncio.Event()
        self._reached = asyncio.Condition()

    @property
    def is_open(self) -> bool:
        """Whether answers pass without waiting."""
        return self._open.is_set()

    def open(self) -> None:
        """Let everything pass, now and from now on."""
        self._open.set()

    async def reached(self, answers: int = 1) -> None:
        """Wait until that many answers have come to the gate; TimeoutError when they never do."""
        async with asyncio.timeout(PATIENCE_S), self._reached:
            await self._reached.wait_for(lambda: self.held >= answers)

    async def passed(self) -> None:
        """Called by the origin: returns when the gate is open."""
        async with self._reached:
            self.held += 1
            self._reached.notify_all()
        await self._open.wait()


class TokenBucket:
    """Lets ``rate_bps`` bytes per second through, shared first come, first served."""

    def __init__(self, rate_bps: float) -> None:
        self._rate_bps = rate_bps
        self._free_at_s = 0.0

    @property
    def quantum_bytes(self) -> int:
        """A size of writes that keeps the flow even: what flows in a fiftieth of a second."""
        return max(1, min(65_536, int(self._rate_bps / 50)))

    async def take(self, size: int) -> None:
        """Wait until the ``size`` bytes that were just asked for have had their time on the wire."""
        loop = asyncio.get_running_loop()
        self._free_at_s = max(self._free_at_s, loop.time()) + size / self._rate_bps
        delay_s = self._free_at_s - loop.time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
