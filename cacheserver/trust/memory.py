"""Answers of a trust service, kept for a while, and its failures, kept for seconds.

Owns: lifetimes and bounds. A service that cannot be reached at all is left alone for every key, so that a dead one
costs one deadline per ``failure_s`` and not one per object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.errors import AnchorPaused, CertificateRefused, ConnectFailed, UpstreamError, UpstreamTimeout
from cacheserver.ports import Clock

MAX_ENTRIES: Final = 4096
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
        self._paused_until_s = float("-inf")

    async def get(self, key: str, ask: Callable[[], Awaitable[_V]]) -> _V:
        """The kept answer for ``key``, or what ``ask`` gives, which is then kept.

        Raises what ``ask`` raises, an UpstreamError, and AnchorPaused while that failure is remembered.
        """
        now_s = self._clock.monotonic_s()
        known = self._known.get(key, now_s)
        if known is not None:
            self._known.touch(key)
            if not known:
                raise AnchorPaused("failed for this content a moment ago")
            return known[0]
        if self._paused_until_s > now_s:
            raise AnchorPaused("could not be reached a moment ago")
        try:
            value = await ask()
        except UpstreamError as exc:
            self._known.keep(key, (), self._clock.monotonic_s() + self._failure_s)
            if isinstance(exc, _UNREACHABLE):
                self._paused_until_s = self._clock.monotonic_s() + self._failure_s
            raise
        self._known.keep(key, (value,), self._clock.monotonic_s() + self._answer_s)
        return value

    def __len__(self) -> int:
        return len(self._known)
