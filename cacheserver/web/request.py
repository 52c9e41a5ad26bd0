"""What goes in and out of aiohttp's request machinery: heads one by one, requests, and answers that are already sent.

Owns: the places where aiohttp must be told less, or something else, than it expects. Must not know of caching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web
from yarl import URL

_NOWHERE = URL("/.unreadable")
_END_OF_HEAD = b"\r\n\r\n"


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


def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    """The request of one parsed head; admission reads the target itself, from ``raw_path``.

    aiohttp takes an absolute target apart before anybody is asked. Where it cannot (``http://xn--a/``), the error would
    end its loop over requests, without an answer and without closing the connection.
    """
    loop = asyncio.get_running_loop()
    try:
        return web.BaseRequest(message, payload, protocol, writer, task, loop)
    except ValueError:
        return web.BaseRequest(message._replace(url=URL("/")), payload, protocol, writer, task, loop)


def forgiving(factory: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """The same for a factory of aiohttp's own: a target that it cannot take apart leads to no route."""

    def request(message: Any, *rest: Any) -> web.BaseRequest:
        try:
            return factory(message, *rest)
        except ValueError:
            return factory(message._replace(url=_NOWHERE), *rest)

    return request


class SentResponse(web.StreamResponse):
    """Stands for an answer that is on the wire already; aiohttp is told only whether the connection goes on."""

    def __init__(self, *, status: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""

    @property
    def prepared(self) -> bool:
        """The head is out."""
        return True
