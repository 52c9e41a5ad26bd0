"""aiohttp's server side as the rest of this package sees it: every private part of aiohttp that the node uses is here.

Owns: heads given to aiohttp one by one, requests that it cannot make itself, answers that are already sent, and names
for the state of a connection. ``RELIED_ON`` lists the private attributes; the node's start checks that they exist. Must
not know of caching.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

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


def untested_version() -> str | None:
    """The version of aiohttp that is installed, where the node's tests have not run with it."""
    return None if aiohttp.__version__ in TESTED_VERSIONS else aiohttp.__version__


class ServerConnection(RequestHandler):
    """aiohttp's protocol for one client connection, its state behind names."""

    __slots__ = ("_answered_count", "_cutter", "_heads")

    def __init__(self, manager: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._answered_count = 0
        self._cutter = HeadCutter()
        self._heads: deque[bytes] = deque()

    def feed(self, data: bytes) -> bool:
        """Give aiohttp one head at a time, and no more than it queues; whether a head was completed by ``data``.

        What its parser refuses takes everything with it that was parsed in the same call: the requests before it would
        never be answered. Called with nothing when the queue has drained.
        """
        before = self._request_count
        if not data:
            super().data_received(data)
        self._heads.extend(self._cutter.cut(data))
        while self._heads and len(self._messages) < self._max_msg_queue_size:
            super().data_received(self._heads.popleft())
        if self._heads and not self._buffer_paused:
            self._pause_reading_for_buffer()
        return self._cutter.between or self._request_count != before

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
    def is_in_head(self) -> bool:
        """Whether a part of a head has come, and its end has not."""
        return not self._cutter.between

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

    A body that happens to hold an empty line comes in parts; the bytes and their order stay what they are.
    """

    def __init__(self) -> None:
        self._before = b""
        self.between = True
        """Whether everything so far ended with a whole head, so that the next byte begins another one."""

    def cut(self, data: bytes) -> Iterator[bytes]:
        """``data`` in parts."""
        joined, start = self._before + data, len(self._before)
        searched = 0
        while (found := joined.find(_END_OF_HEAD, searched)) >= 0:
            searched = found + len(_END_OF_HEAD)
            yield joined[start:searched]
            start = searched
        if data:
            self.between = start == len(joined)
        if start < len(joined):
            yield joined[start:]
        self._before = joined[max(searched, len(joined) - len(_END_OF_HEAD) + 1) :]


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
