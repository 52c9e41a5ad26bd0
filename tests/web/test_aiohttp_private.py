"""What the adapter relies on of aiohttp's private parts, one claim per name, on a real connection."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cacheserver.web import aiohttp_adapter
from cacheserver.web.aiohttp_adapter import RELIED_ON, ServerConnection
from tests.support.flow import eventually

HEAD = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


@dataclass
class Play:
    """One client connection whose handler waits at ``gate`` in every request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: web.Server
    connection: Any
    """The ``ServerConnection``, as its private parts are asked for."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, count: int = 1) -> None:
        """Send requests at once, and wait until the first is being answered."""
        self.writer.write(HEAD * count)
        await self.begun.wait()

    async def waiting(self) -> None:
        """Until aiohttp waits for a request."""

        async def waits() -> bool:
            return self.connection._waiter is not None

        await eventually(waits)


@asynccontextmanager
async def playing() -> AsyncIterator[Play]:
    made: list[ServerConnection] = []
    plays: list[Play] = []

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        plays[0].begun.set()
        await plays[0].gate.wait()
        return web.Response(text="ok")

    def factory() -> ServerConnection:
        made.append(ServerConnection(server, loop=asyncio.get_running_loop(), keepalive_timeout=60))
        return made[-1]

    server = web.Server(handler)
    listening = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])

    async def accepted() -> bool:
        return bool(made) and made[0].transport is not None

    await eventually(accepted)
    plays.append(Play(reader, writer, server, made[0]))
    try:
        yield plays[0]
    finally:
        writer.close()
        listening.close()
        await server.shutdown(1.0)
        await listening.wait_closed()


async def _close(play: Play) -> None:
    await play.ask(2)
    play.connection._close = True
    play.gate.set()
    assert (await play.reader.read()).count(b"HTTP/1.1 200") == 1


async def _force_close(play: Play) -> None:
    play.connection._force_close = True
    play.connection.data_received(HEAD)
    assert not play.connection._messages


async def _upgraded(play: Play) -> None:
    assert not play.connection._upgraded
    play.connection.data_received(HEAD[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\nrest")
    assert play.connection._upgraded
    assert play.connection._message_tail == b"rest"


async def _request_count(play: Play) -> None:
    assert play.connection._request_count == 0
    await play.ask(3)
    assert play.connection._request_count == 3


async def _messages(play: Play) -> None:
    await play.ask(3)
    assert len(play.connection._messages) == 2


async def _request_in_progress(play: Play) -> None:
    assert not play.connection._request_in_progress
    await play.ask()
    assert play.connection._request_in_progress


async def _waiter(play: Play) -> None:
    await play.waiting()
    await play.ask()
    assert play.connection._waiter is None
    play.gate.set()
    await play.waiting()


async def _buffer_paused(play: Play) -> None:
    await play.ask()
    assert not play.connection._buffer_paused
    play.connection._pause_reading_for_buffer()
    assert play.connection._buffer_paused
    assert not play.connection.transport.is_reading()


async def _pause_reading_for_buffer(play: Play) -> None:
    await play.ask()
    fed: list[bytes] = []
    play.connection.feed(HEAD * 2)
    play.connection._pause_reading_for_buffer()
    received = ServerConnection.data_received

    def seen(connection: ServerConnection, data: bytes) -> None:
        fed.append(data)
        received(connection, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerConnection, "data_received", seen)
        play.gate.set()
        await play.waiting()
    assert b"" in fed
    assert play.connection.transport.is_reading()


async def _max_msg_queue_size(play: Play) -> None:
    await play.ask()
    play.connection.feed(HEAD * (play.connection._max_msg_queue_size + 5))
    assert len(play.connection._messages) == play.connection._max_msg_queue_size
    assert len(play.connection._heads) == 5


async def _idle_end(play: Play) -> None:
    await play.waiting()
    assert play.connection._keepalive_timeout == 60
    play.connection._next_keepalive_close_time = play.connection._loop.time() + 9
    play.connection._process_keepalive()
    assert not play.connection.transport.is_closing()
    play.connection._next_keepalive_close_time = 0
    play.connection._process_keepalive()
    assert await play.reader.read() == b""


async def _manager(play: Play) -> None:
    assert play.connection._manager is play.server
    play.connection._manager = None
    play.connection.connection_lost(None)
    assert play.server.connections == [play.connection], "not taken off the list of a server that it is not on"
    play.connection._manager = play.server


CLAIMS: dict[str, Callable[[Play], Awaitable[None]]] = {
    "_close": _close,
    "_force_close": _force_close,
    "_upgraded": _upgraded,
    "_request_count": _request_count,
    "_messages": _messages,
    "_message_tail": _upgraded,
    "_max_msg_queue_size": _max_msg_queue_size,
    "_request_in_progress": _request_in_progress,
    "_waiter": _waiter,
    "_buffer_paused": _buffer_paused,
    "_pause_reading_for_buffer": _pause_reading_for_buffer,
    "_process_keepalive": _idle_end,
    "_next_keepalive_close_time": _idle_end,
    "_keepalive_timeout": _idle_end,
    "_manager": _manager,
    "_loop": _idle_end,
}


@pytest.mark.parametrize("name", RELIED_ON)
async def test_a_private_part_is_what_the_adapter_relies_on(name: str) -> None:
    async with playing() as play:
        await asyncio.wait_for(CLAIMS[name](play), 10)


def test_every_private_part_that_the_adapter_uses_is_listed() -> None:
    own = set(ServerConnection.__slots__)
    nodes = ast.walk(ast.parse(inspect.getsource(aiohttp_adapter.ServerConnection)))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    assert {name for name in used if not name.startswith("__")} - own == set(RELIED_ON)


def test_nothing_else_of_the_node_uses_private_parts_of_a_connection() -> None:
    from cacheserver.web import connection

    theirs = {name for kind in RequestHandler.__mro__ for name in vars(kind) if name[0] == "_" != name[1]}
    nodes = ast.walk(ast.parse(inspect.getsource(connection.ClientConnection)))
    assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & theirs
