"""One response on one connection: head once, then exactly the announced number of body bytes, or a cut.

Owns: framing (Content-Length, chunked, HEAD) and the rule that an incomplete body is never made to look complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cacheserver.concurrency.awake import awake_timeout
from cacheserver.ports import Clock
from cacheserver.web.heads import Head
from cacheserver.web.sending.wire import Still, Wire, always


class ResponseWriter:
    """Writes one response; ``keep_alive`` tells afterwards whether the connection may take another request."""

    def __init__(self, wire: Wire, *, method: str, http_10: bool, keep_alive: bool) -> None:
        self.http_10 = http_10
        self.keep_alive = keep_alive
        self.status = 0
        self._taken_bytes = 0
        self._file_from: int | None = None
        """What the wire had sent when the file began that is being sent."""
        self.started_s: float | None = None
        """Monotonic time at which the head went out inside ``starting_within``."""
        self._deadline: tuple[awake_timeout, Clock] | None = None
        self._wire = wire
        self._bodiless = method == "HEAD"
        self._remaining: int | None = 0
        self._chunked = False

    @property
    def head_sent(self) -> bool:
        """Whether the answer has begun, so that no other can be given."""
        return self.status != 0

    @property
    def body_bytes(self) -> int:
        """Body bytes so far, of a file that is being sent too."""
        return self._taken_bytes + (0 if self._file_from is None else self._wire.sent_bytes - self._file_from)

    @asynccontextmanager
    async def starting_within(self, limit_s: float, clock: Clock) -> AsyncIterator[None]:
        """Cancel the block, with TimeoutError, unless the head goes out within ``limit_s``."""
        try:
            async with awake_timeout(limit_s) as deadline:
                self._deadline = deadline, clock
                yield
        finally:
            self._deadline = None

    async def start(self, head: Head, *, close: bool = False) -> None:
        """Send the head; a second one, which would be taken for another request's answer, is refused under -O too."""
        if self.head_sent:
            raise AssertionError("one answer per request")
        delimited_by_close = head.length_bytes is None and self.http_10
        self.keep_alive = self.keep_alive and not close and not delimited_by_close
        self.status = head.status
        if self._deadline is not None:
            deadline, clock = self._deadline
            deadline.lift()
            self.started_s = clock.monotonic_s()
        self._remaining = head.length_bytes
        self._chunked = head.length_bytes is None and not delimited_by_close and not self._bodiless
        self._bodiless = self._bodiless or head.status in (204, 304)
        await self._wire.write(head.encode(close=not self.keep_alive, http_10=self.http_10))

    async def write(self, data: bytes) -> None:
        """Send body bytes; ValueError when more than announced."""
        if self._bodiless or not data:
            return
        self._take(len(data))
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._wire.write(data)

    async def send_file(self, fd: int, start: int, stop: int, still: Still = always) -> None:
        """Send bytes ``[start, stop)`` of an open file; ``body_bytes`` tells how far it came, also when this raises.

        See ``Wire.send_file``.
        """
        if self._chunked:
            raise AssertionError("object bodies have a length")
        self._file_from = before = self._wire.sent_bytes
        try:
            await self._wire.send_file(fd, start, stop, still)
        finally:
            self._file_from = None
            self._take(self._wire.sent_bytes - before)

    async def finish(self) -> None:
        """End the response; one that lacks bytes is cut instead."""
        if self._bodiless:
            return
        if self._chunked:
            await self._wire.write(b"0\r\n\r\n")
        elif self._remaining:
            self.cut()

    def cut(self) -> None:
        """Give up on the connection; the client sees that the body is incomplete."""
        self.keep_alive = False
        delimited_by_close = self._remaining is None and not self._chunked
        self._wire.abort(reset=delimited_by_close)

    def _take(self, size: int) -> None:
        self._taken_bytes += size
        if self._remaining is not None:
            self._remaining -= size
            if self._remaining < 0:
                self.cut()
                raise ValueError("more body bytes than announced")
