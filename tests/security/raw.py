"""What a node makes of raw bytes: every answer that comes, and how the connection ends.

Owns nothing but that one exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.client import ConnectionEnded, ProtocolError, RawClient, Response

Address = tuple[str, int]
_PAUSE_S = 0.002


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answers in their order, and whether the node closed the connection behind them."""

    answers: tuple[Response, ...]
    closed: bool

    @property
    def statuses(self) -> tuple[int, ...]:
        """Their statuses."""
        return tuple(answer.status for answer in self.answers)


async def exchange(address: Address, parts: Iterable[bytes], *, most: int = 64, timeout_s: float = 10.0) -> Outcome:
    """Send ``parts`` one by one with a short pause, half-close, and read all there is.

    The half-close asks for nothing more, so that a connection which is kept ends as well; ``closed`` says whether an
    answer announced the end by itself.
    """
    async with RawClient(*address, timeout_s=timeout_s) as client:
        try:
            for number, part in enumerate(parts):
                if number:
                    await asyncio.sleep(_PAUSE_S)
                await client.send(part)
            client.half_close()
        except OSError:
            pass  # it closed before the end: what it had to say is still to be read
        answers: list[Response] = []
        while len(answers) < most:
            try:
                answers.append(await client.receive())
            except ConnectionEnded:
                break
            except ProtocolError as error:
                raise AssertionError(f"no HTTP after {len(answers)} answers: {error}") from error
    closed = bool(answers) and (answers[-1].fields.value("Connection") or "").lower() == "close"
    return Outcome(tuple(answers), closed)
