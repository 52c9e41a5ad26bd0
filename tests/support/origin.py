"""A real local origin: an HTTP/1.1 server on asyncio streams in which a test controls and counts every byte.

Owns: the contents and faults by path, the record of what was asked and sent. ``support.answer`` says what a right
answer is, ``support.connection`` puts it on the wire.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Self

from tests.support.connection import Connection
from tests.support.content import Content, Fault
from tests.support.flow import PATIENCE_S, Gate, TokenBucket
from tests.support.record import RequestRecord, Resource, Responder


class Origin:
    """``async with Origin() as origin``: listens on a free port of 127.0.0.1.

    ``rate_bps`` limits all connections together, ``connection_rate_bps`` each of them; with ``tls`` it speaks https.
    """

    def __init__(
        self,
        *,
        rate_bps: float | None = None,
        connection_rate_bps: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[RequestRecord] = []
        self.connections = 0
        """Connections accepted so far."""
        self.active = 0
        """Requests being answered now."""
        self.max_concurrent = 0
        """Most requests that were ever being answered at once."""
        self.bytes_sent = 0
        """Body bytes sent so far, whatever the path and the status."""
        self.connection_rate_bps = connection_rate_bps
        self.bucket = None if rate_bps is None else TokenBucket(rate_bps)
        self.port = 0
        self._tls = tls
        self._resources: dict[str, Resource] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._changed = asyncio.Condition()
        self._marks: list[tuple[int, asyncio.Event]] = []
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """``127.0.0.1:port``."""
        return f"127.0.0.1:{self.port}"

    # -- what it holds ------------------------------------------------------------------------------------------

    def add(self, path: str, source: Content | Responder) -> None:
        """Hold ``source`` at ``path``; a path without a query stands for every query. Faults and gates stay."""
        if path in self._resources:
            self._resources[path].source = source
        else:
            self._resources[path] = Resource(source)

    def fault(self, path: str, *faults: Fault, always: Fault | None = None) -> None:
        """Spoil the next answers one by one with ``faults``, and all further ones with ``always``."""
        resource = self._resources[path]
        resource.scheduled.extend(faults)
        if always is not None:
            resource.permanent = always

    def heal(self, path: str) -> None:
        """Answer rightly from the next request on."""
        resource = self._resources[path]
        resource.scheduled.clear()
        resource.permanent = None

    def gate(self, path: str, *, at: int | None = None) -> Gate:
        """A closed gate on ``path``: before the head, or before the object's byte ``at``."""
        gate = Gate(at)
        self._resources[path].gates.append(gate)
        return gate

    # -- what it saw --------------------------------------------------------------------------------------------

    def asked(self, path: str) -> list[RequestRecord]:
        """The requests that were answered from ``path``, in the order in which they came."""
        return [record for record in self.requests if record.path == path]

    def body_bytes(self, path: str) -> int:
        """Bytes of the object at ``path`` that were sent so far (200 and 206 answers only)."""
        return sum(record.bytes_sent for record in self.asked(path) if record.status in (200, 206))

    async def wait_for(self, requests: int, path: str | None = None) -> None:
        """Wait until that many requests (of that path) have come; TimeoutError when they never do."""
        await self._wait(lambda: len(self.requests if path is None else self.asked(path)) >= requests)

    async def wait_done(self, path: str) -> None:
        """Wait until no request of ``path`` is being answered."""
        await self._wait(lambda: all(record.done for record in self.asked(path)))

    async def wait_sent(self, more_bytes: int) -> None:
        """Wait until that many body bytes more than now were sent, of whatever path."""
        reached = asyncio.Event()
        self._marks.append((self.bytes_sent + more_bytes, reached))
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at whenever a request comes or is done with, holds."""
        await self._wait(condition)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(condition)

    # -- how the connections work with it -----------------------------------------------------------------------

    async def arrived(self, record: RequestRecord) -> Resource | None:
        """Take note of a request; what its path holds, None where nothing."""
        path = record.target.partition("?")[0]
        record.path = record.target if record.target in self._resources else path
        self.requests.append(record)
        self.active += 1
        self.max_concurrent = max(self.max_concurrent, self.active)
        async with self._changed:
            self._changed.notify_all()
        return self._resources.get(record.path)

    def sent(self, size: int) -> None:
        """Take note of body bytes."""
        self.bytes_sent += size
        for mark, reached in self._marks:
            if mark <= self.bytes_sent:
                reached.set()

    async def answered(self, record: RequestRecord) -> None:
        """Take note that nothing more is sent for ``record``."""
        record.done = True
        self.active -= 1
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await Connection(self, self.connections, reader, writer).run()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.go_down()
        if self._failures:
            raise ExceptionGroup("the origin itself failed", [e for e in self._failures if isinstance(e, Exception)])

    async def go_down(self) -> None:
        """Refuse connections and break the present ones; ``come_up`` listens on the same port again."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def come_up(self) -> None:
        """Listen again after ``go_down``."""
        await self.__aenter__()
