"""One connection of the test origin: reads heads, sends answers with their faults, gates and rates.

Owns the wire. Must not decide what a right answer is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from cacheserver.core.http.fields import Fields
from tests.support.answer import Answer, head_bytes, right_answer, with_fault
from tests.support.content import Content, Fault
from tests.support.flow import Gate, TokenBucket
from tests.support.record import RequestRecord, Resource

if TYPE_CHECKING:
    from tests.support.origin import Origin

_CHUNK_BYTES = 65_536
_NOT_FOUND = Content(b"no such path\n", etag=None, headers=(("Content-Type", "text/plain"),), status=404)


class _Cut(Exception):
    """This connection ends here."""


class Connection:
    """Serves one client of the origin until either side has enough."""

    def __init__(self, origin: Origin, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._origin = origin
        self._number = number
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        rate_bps = origin.connection_rate_bps
        self._bucket = None if rate_bps is None else TokenBucket(rate_bps)
        writer.transport.set_write_buffer_limits(0)

    async def run(self) -> None:
        """Answer request after request."""
        try:
            while (record := await self._next_request()) is not None:
                resource = await self._origin.arrived(record)
                try:
                    await self._answer(record, resource)
                finally:
                    await self._origin.answered(record)
                if (record.fields.first("Connection") or "").lower() == "close":
                    raise _Cut
        except _Cut:
            await self._close()

    async def _close(self) -> None:
        """FIN, then wait for the peer's own, so that what was sent is not lost to a reset."""
        with contextlib.suppress(TimeoutError, OSError):
            self._writer.write_eof()
            async with asyncio.timeout(1.0):
                while await self._reader.read(_CHUNK_BYTES):
                    pass

    async def _next_request(self) -> RequestRecord | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            chunk = await self._reader.read(_CHUNK_BYTES)
            if not chunk:
                return None
            self._buffer += chunk
        head = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        request_line, *lines = head.split("\r\n")
        method, target, _version = request_line.split(" ")
        pairs = [line.partition(":") for line in lines]
        fields = Fields((name, value.strip()) for name, _, value in pairs)
        return RequestRecord(method, target, fields, self._number, asyncio.get_running_loop().time())

    async def _answer(self, record: RequestRecord, resource: Resource | None) -> None:
        if resource is None:
            await self._send(record, right_answer(_NOT_FOUND, record.method, record.fields), Fault(), [])
            return
        fault = resource.next_fault()
        if fault.become is not None:
            resource.source = fault.become
        gates = list(resource.gates)
        for gate in gates:
            if gate.at is None:
                await self._unless_gone(gate.passed())
        if fault.delay_s:
            await self._unless_gone(asyncio.sleep(fault.delay_s))
        if fault.close_before_head:
            raise _Cut
        if fault.raw is not None:
            self._writer.write(fault.raw)
            await self._writer.drain()
            raise _Cut
        content = resource.content(record)
        asked = record.fields.without("Range") if fault.ignore_range else record.fields
        answer = with_fault(right_answer(content, record.method, asked), fault, content)
        await self._send(record, answer, fault, gates)

    async def _send(self, record: RequestRecord, answer: Answer, fault: Fault, gates: list[Gate]) -> None:
        record.status = answer.status
        self._writer.write(head_bytes(answer, fault))
        await self._writer.drain()
        if record.method == "HEAD" or not answer.has_body:
            return
        if fault.endless:
            while True:
                await self._send_chunk(record, answer.payload, fault)
        for start, stop in self._steps(answer, fault, gates):
            for gate in gates:
                if gate.at is not None and not gate.is_open and answer.offset + start >= gate.at:
                    await self._unless_gone(gate.passed())
            await self._cut_here(start, fault)
            await self._send_chunk(record, answer.payload[start:stop], fault)
        await self._cut_here(len(answer.payload), fault)
        await self._end(fault)

    def _steps(self, answer: Answer, fault: Fault, gates: list[Gate]) -> list[tuple[int, int]]:
        """The payload in writes: none longer than a rate allows, none across a gate or a cut."""
        size = len(answer.payload)
        buckets = [bucket.quantum_bytes for bucket in (self._bucket, self._origin.bucket) if bucket is not None]
        if fault.rate_bps is not None:
            buckets.append(TokenBucket(fault.rate_bps).quantum_bytes)
        step = min([_CHUNK_BYTES, *buckets])
        marks = {gate.at - answer.offset for gate in gates if gate.at is not None}
        marks |= {n for n in (fault.stall_after, fault.reset_after, fault.truncate_after) if n is not None}
        edges = sorted({0, size, *range(0, size, step), *(mark for mark in marks if 0 < mark < size)})
        return list(itertools.pairwise(edges))

    async def _send_chunk(self, record: RequestRecord, chunk: bytes, fault: Fault) -> None:
        for bucket in (self._bucket, self._origin.bucket):
            if bucket is not None:
                await self._unless_gone(bucket.take(len(chunk)))
        if fault.rate_bps is not None:
            await self._unless_gone(asyncio.sleep(len(chunk) / fault.rate_bps))
        chunked = fault.endless or fault.framing.startswith("chunked")
        self._writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
        await self._writer.drain()
        record.bytes_sent += len(chunk)
        self._origin.sent(len(chunk))

    async def _cut_here(self, sent: int, fault: Fault) -> None:
        """Do what the fault does after ``sent`` body bytes."""
        if fault.stall_after is not None and sent >= fault.stall_after:
            await self._unless_gone(asyncio.Event().wait())
        if fault.reset_after is not None and sent >= fault.reset_after:
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
            raise ConnectionResetError
        if fault.truncate_after is not None and sent >= fault.truncate_after:
            raise _Cut

    async def _end(self, fault: Fault) -> None:
        if fault.framing == "chunked":
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()
        elif fault.framing == "chunked-broken":
            self._writer.write(b"not-a-size\r\n")
            await self._writer.drain()
            raise _Cut
        elif fault.framing == "close" or fault.length_deltas != (0,):
            raise _Cut

    async def _unless_gone(self, waited_for: Awaitable[object]) -> None:
        """Wait for something, but leave when the peer does."""
        wanted = asyncio.ensure_future(waited_for)
        try:
            while not wanted.done():
                peer = asyncio.ensure_future(self._reader.read(_CHUNK_BYTES))
                try:
                    await asyncio.wait({wanted, peer}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    peer.cancel()
                    await asyncio.wait({peer})
                if not peer.cancelled():
                    chunk = peer.result()
                    if not chunk:
                        raise ConnectionResetError
                    self._buffer += chunk
        finally:
            wanted.cancel()
