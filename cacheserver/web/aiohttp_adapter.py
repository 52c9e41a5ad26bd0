"""aiohttp's server side as the rest of this package sees it: every private part of aiohttp that the node uses is here.

Owns: heads given to aiohttp one by one, requests that it cannot make itself, answers that are already sent, and names
for the state of a connection. ``RELIED_ON`` lists the private attributes; the node's start checks that they exist. Must
not know of caching.
"""

from __future__ import annotations

import asyncio
import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from yarl import URL

TESTED_VERSIONS: Final = ("3.14.5",)
RELIED_ON: Final = {
    "_close": "true: the connection ends behind the answer that is under way",
    "_force_close": "true: the connection is closed, and nothing more is parsed",
    "_upgraded": "true: what comes in is no HTTP any more",
    "_request_count": "heads parsed so far",
    "_messages": "parsed heads whose answer has not begun",
    "_message_tail": "bytes kept behind a request for an upgrade",
    "_max_msg_queue_size": "how many parsed heads are kept",
    "_request_in_progress": "true while the handler runs",
    "_waiter": "a future while aiohttp waits for a head, else None",
    "_buffer_paused": "true while reading is paused because the queue of heads is full",
    "_pause_reading_for_buffer": "pauses reading until the queue has drained, then calls data_received with nothing",
    "_process_keepalive": "called when an idle connection may have to end",
    "_next_keepalive_close_time": "loop time from which on an idle connection ends",
    "_keepalive_timeout": "seconds that a connection may be idle",
    "_manager": "the server that counts the connection; None: connection_lost has nothing to do",
    "_loop": "the event loop of the connection",
}
"""Private attributes of aiohttp's ``RequestHandler``, and what this module relies on."""

_NOWHERE = URL("/.unreadable")
_END_OF_HEAD = b"\r\n\r\n"
_UNREADABLE = b"\0"
"""Refused by the parser wherever it stands in a head."""
_ANNOUNCES_BODY = re.compile(rb"(?i)content-length|transfer-encoding")
_ASCII = bytes(range(128))
_NOT_EMPTY_LINE = re.compile(rb"[^\r\n]")


def untested_version() -> str | None:
    """The version of aiohttp that is installed, where the node's tests have not run with it."""
    return None if aiohttp.__version__ in TESTED_VERSIONS else aiohttp.__version__


class ServerConnection(RequestHandler):
    """aiohttp's protocol for one client connection, its state behind names."""

    __slots__ = ("_answered_count", "_cutter", "_heads")

    def __init__(
        self, manager: Any, *, loop: asyncio.AbstractEventLoop, max_head_bytes: int = 1 << 15, **kwargs: Any
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._answered_count = 0
        self._cutter = HeadCutter(max_head_bytes)
        self._heads: deque[bytes] = deque()

    def feed(self, data: bytes) -> bool:
        """Give aiohttp one head at a time, and no more than it queues; whether ``data`` made no part of a head wait.

        What its parser refuses takes everything with it that was parsed in the same call: the requests before it would
        never be answered. So a head that is too long ends, in its turn, with what the parser refuses. Called with
        nothing when the queue has drained.
        """
        before = self._request_count
        if not data:
            super().data_received(data)
        was_too_long = self._cutter.too_long
        self._heads.extend(self._cutter.cut(data))
        if self._cutter.too_long and not was_too_long:
            self._heads.append(_UNREADABLE)
        while self._heads and len(self._messages) < self._max_msg_queue_size:
            super().data_received(self._heads.popleft())
        if self._heads and not self._buffer_paused:
            self._pause_reading_for_buffer()
        return self._request_count != before or not self._cutter.unfinished_bytes

    def give(self, data: bytes) -> bool:
        """Give aiohttp all of ``data`` at once, where bodies come too; whether it made a request of it."""
        before = self._request_count
        super().data_received(data)
        return self._request_count != before

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Note that an answer is out, unless the connection ends with it."""
        finished = await super().finish_response(request, resp, start_time)
        if resp.keep_alive and request.content.is_eof():
            self._answered_count = self._request_count - len(self._messages)
        return finished

    @property
    def is_idle(self) -> bool:
        """Whether every request is answered, the connection goes on, and aiohttp holds no part of a next request.

        Else the next bytes are not the beginning of a head, or their answer would overtake another one. aiohttp need
        not wait for a request yet: after an answer it comes back to that in the next pass of the loop, and a client
        that is near sends its next request before.
        """
        return (
            self._answered_count == self._request_count
            and self._cutter.between
            and not (self._messages or self._heads)
            and not (self._close or self._force_close or self._upgraded)
        )

    @property
    def unfinished_bytes(self) -> int:
        """Bytes that have come since the last whole head: a part of a head, or empty lines before one."""
        return self._cutter.unfinished_bytes

    @property
    def head_is_too_long(self) -> bool:
        """Whether the connection ends because a head, or empty lines in its place, took more than the limit."""
        return self._cutter.too_long

    @property
    def has_queued(self) -> bool:
        """Whether requests wait for the answers before them."""
        return bool(self._messages or self._heads)

    @property
    def has_unread(self) -> bool:
        """Whether anything that has come in is not being answered yet."""
        return self.has_queued or bool(self._message_tail)

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered. Between taking and beginning it, aiohttp has neither it nor a waiter."""
        return self._request_in_progress or (self._waiter is None and self._request_count > 0)

    @property
    def is_sending(self) -> bool:
        """Whether an answer goes out that aiohttp does not know of."""
        return False

    @property
    def waits(self) -> bool:
        """Whether no request is under way."""
        return not (self.is_sending or self.is_answering or self.has_queued)

    def end_after_answer(self) -> None:
        """Close the connection behind the answer that is under way."""
        self._close = True

    def postpone_idle_end(self) -> None:
        """Count the time until an idle connection ends from now on."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def _process_keepalive(self) -> None:
        """Idle connections end here."""
        if self.is_sending:
            self.postpone_idle_end()
        super()._process_keepalive()

    def disown(self) -> None:
        """Have the server not count a connection that was refused."""
        self._manager = None


class HeadCutter:
    """Cuts what comes in behind every empty line, also where the line itself comes in parts.

    A body that happens to hold an empty line comes in parts. Empty lines before a head are dropped (RFC 9112 §2.2):
    each would cost a call of the parser and make no request.

    UTF-8 in a request line, which clients send in targets and the parser refuses, gets its escapes. No byte of a body
    may change, so this ends with the first head that announces one, or came in parts.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._before = b""
        self._spells = True
        self._decode = getincrementaldecoder("utf-8")().decode
        self._in_first_line = False
        self.between = True
        """Whether everything so far ended with a whole head, so that the next byte begins another one."""
        self.unfinished_bytes = 0
        """What came since the last whole head, dropped empty lines too."""
        self.too_long = False
        """Whether that was more than the limit: nothing is cut any more."""

    def cut(self, data: bytes) -> Iterator[bytes]:
        """``data`` in parts."""
        at = 0
        while at < len(data) and not self.too_long:
            if self.between:
                begin = _first_of_head(data, at)
                self.between = begin == len(data)
                self._in_first_line = self._spells and not self.between
                self._count(begin - at)
                at = begin
                continue
            joined = self._before + data[at : at + len(_END_OF_HEAD)] if self._before else b""
            found = joined.find(_END_OF_HEAD)
            if found >= 0:
                end = at + found + len(_END_OF_HEAD) - len(self._before)
            else:
                found = data.find(_END_OF_HEAD, at)
                end = found + len(_END_OF_HEAD) if found >= 0 else len(data)
            if self._count(end - at):
                return
            part, begins = data[at:end], not self._before
            yield self._spelt(part) if self._in_first_line else part
            self.between = found >= 0
            if self.between:
                self._spells = self._spells and begins and not _ANNOUNCES_BODY.search(part)
                self.unfinished_bytes, self._before = 0, b""
            else:
                self._before = (self._before + data[max(at, end - 3) : end])[-3:]
            at = end

    def _spelt(self, part: bytes) -> bytes:
        """A part that begins inside a request line, which then has only ASCII."""
        line, feed, rest = part.partition(b"\n")
        self._in_first_line = not feed
        try:
            text = self._decode(line, bool(feed))
        except UnicodeDecodeError:
            return _UNREADABLE
        return quote(text, safe=_ASCII).encode("ascii") + feed + rest

    def _count(self, more_bytes: int) -> bool:
        self.unfinished_bytes += more_bytes
        self.too_long = self.unfinished_bytes > self._limit_bytes
        return self.too_long


def _first_of_head(data: bytes, at: int) -> int:
    """Where the first byte from ``at`` on is that belongs to no empty line."""
    found = _NOT_EMPTY_LINE.search(data, at)
    return len(data) if found is None else found.start()


def tolerate_targets(server: web.Server) -> None:
    """Have a server accept targets that it cannot take apart (``http://xn--a/``): they lead to no route.

    Their error would end aiohttp's loop over requests, without an answer and without closing the connection. Admission
    reads the target itself, from ``raw_path``.
    """
    factory = server.request_factory

    def request(message: Any, *rest: Any) -> web.BaseRequest:
        try:
            return factory(message, *rest)
        except ValueError:
            return factory(message._replace(url=_NOWHERE), *rest)

    server.request_factory = request


class SentResponse(web.StreamResponse):
    """Stands for an answer that is on the wire already; aiohttp learns only whether the connection goes on."""

    def __init__(self, *, status: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection takes another request."""
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""

    @property
    def prepared(self) -> bool:
        """The head is out."""
        return True
