"""A transport over a socket pair: one end belongs to the node's code, the other to the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cacheserver.system.clock import SystemClock
from cacheserver.web.sending.turns import Turns
from cacheserver.web.sending.wire import Wire


class Peer(asyncio.Protocol):
    """The node's side of a connection, as the wire knows it, and the client's end of it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.wire: Wire | None = None
        self.lost = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep no bytes in the transport beyond what the socket takes."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(0)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.transport = None
        self.lost.set()
        self._resumed.set()
        if self.wire is not None:
            self.wire.close()

    def pause_writing(self) -> None:
        """The transport holds bytes."""
        self._resumed.clear()

    def resume_writing(self) -> None:
        """The transport holds none."""
        self._resumed.set()

    async def drained(self) -> None:
        """See ``wire.Connection``."""
        await self._resumed.wait()

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes at the client's end, fewer at the end of the stream."""
        loop, chunks = asyncio.get_running_loop(), []
        while size:
            data = await loop.sock_recv(self.client, size)
            if not data:
                break
            chunks.append(data)
            size -= len(data)
        return b"".join(chunks)

    async def response(self) -> tuple[bytes, bytes]:
        """Head and body of one response that names its length."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = await self.receive(1)
            assert byte, "the connection ended inside a head"
            head += byte
        return head, await self.receive(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))

    async def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        return await self.receive(1 << 30)


def wire_over(peer: Peer, *, turn_bytes: int = 1 << 16, min_rate_bps: int = 0) -> Wire:
    """A wire over the node's side; it is closed with the connection."""
    turns = Turns(SystemClock())
    assert peer.transport is not None
    peer.wire = Wire(
        peer.transport, peer.drained, turns=turns, turn_bytes=turn_bytes, min_rate_bps=min_rate_bps, executor=None
    )
    return peer.wire


@asynccontextmanager
async def connected(*, buffer_bytes: int = 1 << 16, over_tcp: bool = False) -> AsyncIterator[Peer]:
    """A pair of sockets with small buffers, or one of TCP: its client's end is smaller still."""
    node, client = _tcp_pair() if over_tcp else socket.socketpair()
    for end in (node, client):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192 if over_tcp else buffer_bytes)
    _transport, peer = await asyncio.get_running_loop().create_connection(lambda: Peer(client), sock=node)
    try:
        yield peer
    finally:
        if peer.transport is not None:
            peer.transport.abort()
        await peer.lost.wait()
        client.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        node, _ = server.accept()
    return node, client
