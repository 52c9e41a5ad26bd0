"""Memory for answers that name no length: they are collected before their head can be written.

Owns: the bound per answer and the bound in all, so that no number of such answers can fill the machine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cacheserver.ports import UpstreamAnswer

_TOTAL_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Collected:
    """Body bytes so far, and whether they are all."""

    data: bytes
    complete: bool


class BodyBuffer:
    """Collects bodies; all together hold at most four times what one may hold."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._room_bytes = _TOTAL_FACTOR * limit_bytes

    async def collect(
        self, answer: UpstreamAnswer, *, limit_s: float, prefix: bytes = b"", limit_bytes: int | None = None
    ) -> Collected:
        """Read until the end, a bound or ``limit_s`` is reached; closes the answer when reading fails. UpstreamError.

        The bytes count against the bound in all only while they are collected: the caller sends them at once.
        """
        chunks, size = [prefix], len(prefix)
        most = self._limit_bytes if limit_bytes is None else limit_bytes
        deadline_s = asyncio.get_running_loop().time() + limit_s
        taken = 0
        try:
            while size < most and self._room_bytes > 0 and asyncio.get_running_loop().time() < deadline_s:
                data = await answer.read()
                if not data:
                    return Collected(b"".join(chunks), True)
                chunks.append(data)
                size += len(data)
                taken += len(data)
                self._room_bytes -= len(data)
            return Collected(b"".join(chunks), False)
        except BaseException:
            answer.close()
            raise
        finally:
            self._room_bytes += taken
