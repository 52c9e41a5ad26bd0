"""Answers of a trust service, kept for a while, and its failures, kept for seconds; the queue of questions to it.

Owns: lifetimes, bounds, the queue. A service that cannot be reached at all is left alone for every key, each time for
longer, so that a dead one costs one deadline per pause and not one per object. A question that waits for its turn says
nothing of the service: its time-out begins when it is sent. A question goes on when the one who asked has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import AnchorPaused, CertificateRefused, ConnectFailed, UpstreamError, UpstreamTimeout
from cacheserver.ports import Clock

MAX_ENTRIES: Final = 4096
MAX_AT_ONCE: Final = 16
"""Questions to one service at the same time; the others wait for their turn."""
MAX_WAITING: Final = 1024
"""Questions under way or waiting; further ones are asked again later."""
LONGEST_PAUSE_S: Final = 600.0
_UNREACHABLE: Final = (ConnectFailed, CertificateRefused, UpstreamTimeout)
_V = TypeVar("_V")


class AnswerMemory(Generic[_V]):
    """Answers by key; the one unused for longest goes first when ``MAX_ENTRIES`` are kept."""

    def __init__(self, *, clock: Clock, answer_s: float, failure_s: float) -> None:
        self._clock = clock
        self._answer_s = answer_s
        self._failure_s = failure_s
        self._known: BoundedMemory[str, tuple[_V] | tuple[()]] = BoundedMemory(MAX_ENTRIES)
        """Answers; an empty tuple where the service failed for the key."""
        self._asking = SingleFlight[str, _V]("trust")
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._under_way = 0
        self._pauses = 0
        """How often in a row the service was out of reach."""
        self._paused_until_s = float("-inf")

    async def get(self, key: str, ask: Callable[[], Coroutine[Any, Any, _V]]) -> _V:
        """The kept answer for ``key``, or what ``ask`` gives, which is then kept; one question per key at a time.

        Raises what ``ask`` raises, an UpstreamError; AnchorPaused while that failure is remembered, or where too many
        questions wait already.
        """
        now_s = self._clock.monotonic_s()
        known = self._known.get(key, now_s)
        if known is not None:
            self._known.touch(key)
            if not known:
                raise AnchorPaused("failed for this content a moment ago")
            return known[0]
        self._refuse_paused()
        if key not in self._asking and self._under_way >= MAX_WAITING:
            raise AnchorPaused("has too many questions waiting")
        return await self._asking.run(key, lambda: self._ask(key, ask))

    async def _ask(self, key: str, ask: Callable[[], Coroutine[Any, Any, _V]]) -> _V:
        self._under_way += 1
        try:
            async with self._turns:
                self._refuse_paused()
                return await self._asked(key, ask)
        finally:
            self._under_way -= 1

    async def _asked(self, key: str, ask: Callable[[], Coroutine[Any, Any, _V]]) -> _V:
        try:
            value = await ask()
        except UpstreamError as exc:
            now_s = self._clock.monotonic_s()
            self._known.keep(key, (), now_s + self._failure_s)
            if isinstance(exc, _UNREACHABLE):
                if self._paused_until_s <= now_s:
                    self._pauses += 1
                pause_s = min(self._failure_s * 2 ** min(self._pauses - 1, 16), max(LONGEST_PAUSE_S, self._failure_s))
                self._paused_until_s = max(self._paused_until_s, now_s + pause_s)
            raise
        self._pauses = 0
        self._paused_until_s = float("-inf")
        self._known.keep(key, (value,), self._clock.monotonic_s() + self._answer_s)
        return value

    def _refuse_paused(self) -> None:
        if self._paused_until_s > self._clock.monotonic_s():
            raise AnchorPaused("could not be reached a moment ago")

    async def close(self) -> None:
        """End every question."""
        await self._asking.stop()

    def __len__(self) -> int:
        return len(self._known)
