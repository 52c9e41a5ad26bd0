"""Asking sources only when they want to be asked, and not waiting long for those that are silent.

Owns: the refusal that stands for a source which asked to be left alone. When that is, ``core.cache.back_off`` decides;
asking is ``upstream.client``'s.
"""

from __future__ import annotations

import math

from cacheserver.core.cache.back_off import BackOff, Hold, retry_after_s
from cacheserver.core.cache.sources import NODE
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import UpstreamTimeout
from cacheserver.core.http.cache_status import forwarded_status
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.ports import Clock, Take, UpstreamAnswer
from cacheserver.upstream.client import UpstreamClient

_SILENT_S = 1.5
"""How long a source is waited for that gave nothing whenever it was asked."""
_TEXT = b"the origin asked to be asked later\n"


class BackingOff:
    """See ``ports.Upstream``."""

    def __init__(self, client: UpstreamClient, back_off: BackOff, clock: Clock) -> None:
        self._client = client
        self._back_off = back_off
        self._clock = clock

    async def open(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Ask a source, or repeat its refusal while that stands. Raises UpstreamError."""
        place, asked_s = request.place, self._clock.monotonic_s()
        hold = self._back_off.hold(place.name, place.url, asked_s)
        if hold is not None:
            return RepeatedRefusal(hold, request, now_s=self._clock.wall_s())
        within_s = _SILENT_S if self._back_off.is_silent(place.name, asked_s) else math.inf
        try:
            answer = await self._client.open(request, within_s=within_s)
        except UpstreamTimeout:
            self._back_off.timed_out(place.name, place.url, self._clock.monotonic_s())
            raise
        told = place.kind == NODE and forwarded_status(answer.fields.value("Cache-Status")) is not None
        asked_to_wait = None if told else retry_after_s(answer.fields.value("Retry-After"), answer.response_time_s)
        self._back_off.answered(
            place.name,
            place.url,
            status=answer.status,
            retry_s=asked_to_wait,  # another node keeps to what its own source has asked for
            asked_s=asked_s,
            now_s=self._clock.monotonic_s(),
        )
        return answer


class RepeatedRefusal:
    """A refusal repeated; see ``ports.UpstreamAnswer``."""

    def __init__(self, hold: Hold, request: UpstreamRequest, *, now_s: float) -> None:
        self.status = hold.status
        self.fields = Fields(
            (
                ("Date", format_http_date(now_s)),
                ("Content-Type", "text/plain"),
                ("Content-Length", str(len(_TEXT))),
                ("Retry-After", str(math.ceil(hold.left_s))),
                ("Cache-Control", "no-store"),
            )
        )
        self.source = self.asked = request.place.name
        self.source_class = request.place.kind
        self.secure = False
        self.request_time_s = self.response_time_s = now_s
        self._body = b"" if request.method == "HEAD" else _TEXT

    async def receive(self, _take: Take, _most: int) -> int | None:
        """Not from here."""
        return None

    async def read(self) -> bytes:
        """The whole body, then nothing."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing to give back."""
