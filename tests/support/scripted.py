"""A source without sockets: it serves one body by the rules of HTTP, and fails when the script says so."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cacheserver.core.cache.sources import ORIGIN
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import TruncatedBody, UpstreamError
from cacheserver.core.http.fields import Fields
from cacheserver.ports import Take
from tests.support.stored import NOW_S

CHUNK = 1500


@dataclass(slots=True)
class Turn:
    """How one answer differs from the right one."""

    refuse: UpstreamError | None = None
    """Raised instead of an answer."""
    status: int | None = None
    """This status and a short text instead of the object."""
    break_after: int | None = None
    """The body fails with ``failure`` after that many bytes."""
    failure: UpstreamError | None = None
    """None: the body just ends."""
    ignore_range: bool = False
    gate: asyncio.Event | None = None
    """The body waits for it, the head does not."""
    end: asyncio.Event | None = None
    """Where the body breaks, it waits for it before."""
    head_gate: asyncio.Event | None = None
    fields: tuple[tuple[str, str], ...] = ()
    """Further field lines of this answer."""
    chunked: bool = False
    """No length is announced."""
    flip: bool = False
    """Every byte of the body is inverted."""
    cap: int | None = None
    """A 206 has at most that many bytes."""
    etag: str | None = None
    """The tag of the edge that gives this answer, in place of the right one."""
    without_total: bool = False
    """A 206 does not say how long the content is."""


class ScriptedAnswer:
    """One answer; see ``ports.UpstreamAnswer``."""

    def __init__(self, status: int, fields: Fields, body: bytes, turn: Turn, source: str) -> None:
        self.status = status
        self.fields = fields
        self.source = self.asked = source
        self.source_class = ORIGIN
        self.secure = False
        self.request_time_s = NOW_S
        self.response_time_s = NOW_S + 1
        self.closed = False
        self.read_bytes = 0
        self.receives = False
        """Whether threads get the body from a socket."""
        self._left = b""
        self._body = body
        self._turn = turn

    async def receive(self, take: Take, most: int) -> int | None:
        """The next bytes out of a socket, where the upstream ``receives``."""
        if not self.receives:
            return None
        self._left = self._left or await self.read()
        if not self._left:
            raise TruncatedBody("the script ends the body", source=self.source)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.sendall(self._left)
            count = await take(theirs, min(most, len(self._left)))
        self._left = self._left[count:]
        return count

    async def read(self) -> bytes:
        """The next bytes; a turn of the loop passes for each."""
        if left := self._left:
            self._left = b""
            return left
        assert not self.closed, "read after close"
        if self._turn.gate is not None:
            await self._turn.gate.wait()
        await asyncio.sleep(0)
        limit = len(self._body) if self._turn.break_after is None else min(len(self._body), self._turn.break_after)
        data = self._body[self.read_bytes : min(self.read_bytes + CHUNK, limit)]
        self.read_bytes += len(data)
        if not data and self._turn.end is not None:
            await self._turn.end.wait()
        if not data and self._turn.failure is not None:
            raise self._turn.failure
        return data

    def close(self) -> None:
        """Note that the answer was given back."""
        self.closed = True


class ScriptedUpstream:
    """See ``ports.Upstream``. ``script`` holds the turns of the next requests; after them all is well."""

    all_receive = False
    """What ``receives`` begins with."""

    def __init__(self, body: bytes, *, etag: str | None = '"1"', fields: tuple[tuple[str, str], ...] = ()) -> None:
        self.body = body
        self.etag = etag
        self.fields = fields
        self.ignore_conditions = False
        """Never a 304."""
        self.receives = self.all_receive
        """Whether threads get the bodies from a socket."""
        self.script: deque[Turn] = deque()
        self.opened: Callable[[], object] = lambda: None
        """Called at every request."""
        self.requests: list[UpstreamRequest] = []
        self.answers: list[ScriptedAnswer] = []

    async def open(self, request: UpstreamRequest) -> ScriptedAnswer:
        """Answer one request."""
        self.requests.append(request)
        self.opened()
        turn = self.script.popleft() if self.script else Turn()
        if turn.head_gate is not None:
            await turn.head_gate.wait()
        await asyncio.sleep(0)
        if turn.refuse is not None:
            raise turn.refuse
        answer = self._answer(request, turn)
        answer.receives = self.receives
        self.answers.append(answer)
        return answer

    def _answer(self, request: UpstreamRequest, turn: Turn) -> ScriptedAnswer:
        lines = [*self.fields, *turn.fields]
        tag = turn.etag or self.etag
        if tag is not None:
            lines.append(("ETag", tag))
        if turn.status is not None:
            return self._made(turn.status, lines, b"refused", turn, request)
        condition = None if self.ignore_conditions else request.fields.value("If-None-Match")
        if self.etag is not None and condition == self.etag:
            return self._made(304, lines, b"", turn, request)
        span = self._span(request, tag)
        if turn.ignore_range or span is None:
            return self._made(200, lines, self.body, turn, request)
        start, stop = span
        if start >= len(self.body):
            return self._made(416, [("Content-Range", f"bytes */{len(self.body)}")], b"", turn, request)
        stop = stop if turn.cap is None else min(stop, start + turn.cap)
        total = "*" if turn.without_total else len(self.body)
        lines.append(("Content-Range", f"bytes {start}-{stop - 1}/{total}"))
        return self._made(206, lines, self.body[start:stop], turn, request)

    def _span(self, request: UpstreamRequest, tag: str | None) -> tuple[int, int] | None:
        condition = request.fields.value("If-Range")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.fields.value("Range") or "")
        if asked is None or condition not in (None, tag):
            return None
        return int(asked[1]), min(int(asked[2]) + 1, len(self.body))

    def _made(
        self, status: int, lines: list[tuple[str, str]], body: bytes, turn: Turn, request: UpstreamRequest
    ) -> ScriptedAnswer:
        lines.append(("Transfer-Encoding", "chunked") if turn.chunked else ("Content-Length", str(len(body))))
        if turn.flip:
            body = bytes(byte ^ 0xFF for byte in body)
        return ScriptedAnswer(status, Fields(lines), body, turn, request.place.name)

    @property
    def ranges(self) -> list[str | None]:
        """The Range of every request so far, without the unit."""
        values = [request.fields.value("Range") for request in self.requests]
        return [None if value is None else value.removeprefix("bytes=") for value in values]

    @property
    def unclosed(self) -> int:
        """Answers that nobody has given back."""
        return sum(not answer.closed for answer in self.answers)
