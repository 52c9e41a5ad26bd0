"""Answers of a trust service, kept for a while, and its failures, kept for seconds.

Owns: lifetimes and bounds. A service that cannot be reached at all is left alone for every key, so that a dead one
costs one deadline per ``failure_s`` and not one per object.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cacheserver.core.errors import AnchorPaused, CertificateRefused, ConnectFailed, UpstreamError, UpstreamTimeout
from cacheserver.ports import Clock

MAX_ENTRIES: Final = 4096
_UNREACHABLE: Final = (ConnectFailed, CertificateRefused, UpstreamTimeout)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class _Known(Generic[_V]):
    value: _V | None
    """None: the service failed for this key."""
    expires_s: float


class AnswerMemory(Generic[_V]):
    """Answers by key; the one unused for longest goes first when ``MAX_ENTRIES`` are kept."""

    def __init__(self, *, clock: Clock, answer_s: float, failure_s: float) -> None:
        self._clock = clock
        self._answer_s = answer_s
        self._failure_s = failure_s
        self._known: OrderedDict[str, _Known[_V]] = OrderedDict()
        self._paused_until_s = float("-inf")

    async def get(self, key: str, ask: Callable[[], Awaitable[_V]]) -> _V:
        """The kept answer for ``key``, or what ``ask`` gives, which is then kept.

        Raises what ``ask`` raises, an UpstreamError, and AnchorPaused while that failure is remembered.
        """
        now_s = self._clock.monotonic_s()
        known = self._known.get(key)
        if known is not None and known.expires_s > now_s:
            self._known.move_to_end(key)
            if known.value is None:
                raise AnchorPaused("failed for this content a moment ago")
            return known.value
        if self._paused_until_s > now_s:
            raise AnchorPaused("could not be reached a moment ago")
        try:
            value = await ask()
        except UpstreamError as exc:
            self._keep(key, None, self._failure_s)
            if isinstance(exc, _UNREACHABLE):
                self._paused_until_s = self._clock.monotonic_s() + self._failure_s
            raise
        self._keep(key, value, self._answer_s)
        return value

    def __len__(self) -> int:
        return len(self._known)

    def _keep(self, key: str, value: _V | None, lifetime_s: float) -> None:
        self._known[key] = _Known(value, self._clock.monotonic_s() + lifetime_s)
        self._known.move_to_end(key)
        if len(self._known) > MAX_ENTRIES:
            self._known.popitem(last=False)
