"""A loop whose time is made, an origin and clients made of draws: the world around a simulated node.

Owns time, sources and sinks. Must not judge what the node does; ``simulation`` does.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from cacheserver.core.cache.sources import ORIGIN
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import ConnectFailed, DiskError, TruncatedBody, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.ports import Take
from cacheserver.web.sending.wire import ClientGone, Still
from tests.support.content import blob
from tests.support.stored import NOW_S

CHUNK = 1500
_THREAD_S = 0.02


class _Selector(selectors.DefaultSelector):
    """Never waits for time: the loop's clock goes on instead."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.loop.simulating:
            return super().select(timeout)
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:  # only another thread can go on: the catalogue's writer
            return super().select(_THREAD_S)
        self.loop.now_s += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs as fast as it can; its clock moves only while everybody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.simulating = False
        """Whether time is made; before that, threads are waited for as everywhere."""
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Simulated seconds."""
        return self.now_s


class InlineExecutor(Executor):
    """Does at once what a store thread would do later, so that the order is the same for one seed."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        self.calls += 1
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args, **kwargs))
        except BaseException as exc:
            done.set_exception(exc)
        return done


class LateExecutor(InlineExecutor):
    """Does some calls later, and others' results come late: on simulated time, in an order that ``rng`` draws."""

    def __init__(self, rng: random.Random, *, share: float, most_s: float) -> None:
        super().__init__()
        self._rng = rng
        self._share = share
        self._most_s = most_s
        self.pending: list[_Late] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        if self._rng.random() >= self._share:
            return super().submit(call, *args, **kwargs)
        self.calls += 1
        late = _Late(self, partial(call, *args, **kwargs))
        self.pending.append(late)
        asyncio.get_running_loop().call_later(self.draw_s(), late.begin)
        return late.future

    def draw_s(self) -> float:
        """A wait."""
        return self._rng.random() * self._most_s

    def hurry(self) -> None:
        """Do at once what is due later, and from now on every call."""
        self._share = 0.0
        for late in list(self.pending):
            late.begin()
            late.end()


class _Late:
    """One call, and the future of whoever has asked for it."""

    def __init__(self, executor: LateExecutor, call: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._executor = executor
        self._call = call
        self._done: Future[Any] | None = None

    def begin(self) -> None:
        """Do it; its result comes later still."""
        if self._done is None:
            self._done = InlineExecutor().submit(self._call)
            asyncio.get_running_loop().call_later(self._executor.draw_s(), self.end)

    def end(self) -> None:
        """Hand over the result."""
        if self not in self._executor.pending:
            return
        self._executor.pending.remove(self)
        assert self._done is not None
        if self.future.cancelled():
            return
        if (error := self._done.exception()) is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._done.result())


@dataclass(slots=True)
class Generation:
    """What one path holds for a while."""

    etag: str
    body: bytes


class SimulatedUpstream:
    """See ``ports.Upstream``: every path has generations of its own; answers are late, break, lie or refuse by draw."""

    def __init__(self, rng: random.Random, paths: tuple[str, ...], *, most_bytes: int) -> None:
        self.healthy = False
        self.requests: list[UpstreamRequest] = []
        self.open_answers: list[SimulatedAnswer] = []
        self.generations: dict[str, list[Generation]] = {path: [] for path in paths}
        self.rng = rng
        self._most_bytes = most_bytes
        self._ranges = {path: rng.random() < 0.75 for path in paths}
        """Whether Range is heeded at a path."""
        for path in paths:
            self.change(path)

    @property
    def unclosed(self) -> int:
        """Answers that nobody has given back."""
        return len(self.open_answers)

    def change(self, path: str) -> None:
        """A new generation at a path."""
        size = self.rng.choice((0, 1, 5000, self._most_bytes, self.rng.randint(1, self._most_bytes)))
        number = len(self.generations[path])
        body = blob(self.rng.getrandbits(32), size)
        self.generations[path].append(Generation(f'"{path}-{number}"', body))

    async def open(self, request: UpstreamRequest) -> SimulatedAnswer:
        """Answer one request."""
        self.requests.append(request)
        await asyncio.sleep(self.rng.random() * 0.5)
        draw = 1.0 if self.healthy else self.rng.random()
        if draw < 0.05:
            raise ConnectFailed("drawn", source=request.place.name)
        if draw < 0.1:
            raise UpstreamTimeout("drawn", source=request.place.name)
        generation = self.generations[request.place.path_and_query][-1]
        lines = [("ETag", generation.etag), ("Cache-Control", "max-age=100000")]
        if draw < 0.15:
            return self._answer(request, 503, [*lines, ("Content-Length", "4")], b"busy", 0, None)
        if request.fields.value("If-None-Match") == generation.etag:
            return self._answer(request, 304, lines, b"", 0, None)
        return self._right(request, generation, lines, breaks=draw < 0.3, lies=0.3 < draw < 0.33)

    def _right(
        self,
        request: UpstreamRequest,
        generation: Generation,
        lines: list[tuple[str, str]],
        *,
        breaks: bool,
        lies: bool,
    ) -> SimulatedAnswer:
        body, start, status = generation.body, 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.fields.value("Range") or "")
        if not self._ranges[request.place.path_and_query]:
            asked = None
        if asked is not None and request.fields.value("If-Range") in (None, generation.etag):
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(body))
            if start >= len(body):
                lines = [*lines, ("Content-Range", f"bytes */{len(body)}"), ("Content-Length", "0")]
                return self._answer(request, 416, lines, b"", 0, None)
            status = 206
            shown = start + 1 if lies else start
            lines = [*lines, ("Content-Range", f"bytes {shown}-{stop - 1}/{len(body)}")]
            body = body[start:stop]
        lines = [*lines, ("Content-Length", str(len(body)))]
        return self._answer(request, status, lines, body, start, self.rng.randrange(len(body) + 1) if breaks else None)

    def _answer(
        self,
        request: UpstreamRequest,
        status: int,
        lines: list[tuple[str, str]],
        body: bytes,
        start: int,
        breaks_at: int | None,
    ) -> SimulatedAnswer:
        answer = SimulatedAnswer(self, request, status, Fields(lines), body, start, breaks_at)
        self.open_answers.append(answer)
        return answer


class SimulatedAnswer:
    """See ``ports.UpstreamAnswer``."""

    def __init__(
        self,
        upstream: SimulatedUpstream,
        request: UpstreamRequest,
        status: int,
        fields: Fields,
        body: bytes,
        start: int,
        breaks_at: int | None,
    ) -> None:
        self.status = status
        self.fields = fields
        self.request = request
        self.source = self.asked = request.place.name
        self.source_class = ORIGIN
        self.secure = False
        self.request_time_s = NOW_S
        self.response_time_s = NOW_S + 1
        self.start = start
        self.fetched_for: object = _fetched_for()
        """The object whose fill has asked for it; None where nothing is stored of it, or not yet."""
        self._upstream = upstream
        self._body = body
        self._at = 0
        self._breaks_at = breaks_at

    async def receive(self, _take: Take, _most: int) -> int | None:
        """Never: there are no threads in a simulation."""
        return None

    async def read(self) -> bytes:
        """The next bytes, after a while."""
        await asyncio.sleep(self._upstream.rng.random() * 0.1)
        limit = len(self._body) if self._breaks_at is None else self._breaks_at
        data = self._body[self._at : min(self._at + CHUNK, limit)]
        self._at += len(data)
        if not data and self._breaks_at is not None:
            raise TruncatedBody("drawn", source=self.source)
        return data

    @property
    def position(self) -> int:
        """Offset in the content of the next byte that comes."""
        return self.start + self._at

    def close(self) -> None:
        """Give it back."""
        if self in self._upstream.open_answers:
            self._upstream.open_answers.remove(self)


def _fetched_for() -> object:
    """The object of the fill in whose task this is called."""
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    fill = frame.f_locals.get("self") if frame is not None and frame.f_code.co_name == "_fly" else None
    return getattr(fill, "obj", None)


class SimulatedWire:
    """A client's end: takes bytes slowly, and may leave."""

    def __init__(self, rng: random.Random, *, patience_bytes: int) -> None:
        self.got = bytearray()
        self.sent_bytes = 0
        self.gone = False
        self._rng = rng
        self._patience_bytes = patience_bytes

    async def write(self, data: bytes) -> None:
        """See ``web.sending.wire.Wire``."""
        await asyncio.sleep(self._rng.random() * 0.05)
        self._check()
        self.got += data
        self.sent_bytes += len(data)

    async def send_file(self, fd: int, start: int, stop: int, still: Still) -> None:
        """See ``web.sending.wire.Wire``."""
        while start < stop:
            self._check()
            until = min(start + CHUNK, stop)
            if not still(start, until):
                return
            try:
                data = os.pread(fd, until - start, start)
            except OSError as exc:
                raise DiskError("read failed", errno=exc.errno) from exc
            if not data:
                raise DiskError("object file is shorter than it should be")
            self.got += data
            self.sent_bytes += len(data)
            start += len(data)
            await asyncio.sleep(self._rng.random() * 0.05)

    def abort(self) -> None:
        """The node cuts the connection."""
        self.gone = True

    def _check(self) -> None:
        if self.gone or len(self.got) > self._patience_bytes:
            raise ClientGone("left")
