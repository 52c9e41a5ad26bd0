"""A listener of the node's own in the test's process, plain or with TLS, and one object that its lanes know.

Owns the wiring and a full path that answers ``full``, so that a test sees who answered, or the body at /file. Must not
decide what is right.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aiohttp import web

from cacheserver.core.piece_map import PRESENT, PieceMap
from cacheserver.core.request.answer_record import AnswerRecord, RequestLabel
from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.core.request.subnets import Subnets
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.aiohttp_adapter import SentResponse
from cacheserver.web.connection import ClientConnection, Listener
from cacheserver.web.heads import HitLines
from cacheserver.web.lane.hot_table import HotEntry, HotTable
from cacheserver.web.lane.lane import FastLane
from cacheserver.web.lane.shared import LaneShared
from cacheserver.web.options import ServerOptions
from cacheserver.web.under_way import UnderWay
from tests.support.certificates import NAME, Pki, cert_pem, key_pem, write_pair
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.stored import HandClock

PIECE = 1 << 18
BODY = blob(977, 4 << 20)
HOST = "cdn.example.test"
TURN = 1 << 17
SPANS = ["0-0", "0-4095", "5-20004", "1000-66535", "3-131074", "1-262000", "100-1048675", "7-", f"0-{len(BODY) - 1}"]
"""Ranges that begin and end within, at and beyond turns, pieces and pages."""
FULL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull"
_PKI = Pki()


def body_of(span: str | None) -> bytes:
    """The bytes of BODY that a range asks for; all for None."""
    if span is None:
        return BODY
    first, _, last = span.partition("-")
    return BODY[int(first) : int(last) + 1 if last else None]


class OpenFile:
    """The open file of an object."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.representation = object()
        self.pieces = PieceMap(len(BODY), PIECE, bytes([PRESENT]) * (len(BODY) // PIECE))


class HeldObject:
    """What a lane needs of an object; counts who holds it."""

    def __init__(self, file: OpenFile) -> None:
        self.obsolete = False
        self.condemned: list[int] = []
        self.file = file
        self.pieces = file.pieces
        self.held = 0

    def as_stored(self) -> StoredObject:
        """This in the place of an object of the store."""
        return cast(StoredObject, self)

    def is_spoilt(self, since: int, start: int, stop: int) -> bool:
        """See ``StoredObject.is_spoilt``."""
        return StoredObject.is_spoilt(self.as_stored(), since, start, stop)

    def hold(self) -> None:
        """One more."""
        self.held += 1

    def release(self) -> None:
        """One less."""
        self.held -= 1


@dataclass
class LaneScene:
    """The listener, its object at ``path``, and what has been answered by whom."""

    address: tuple[str, int]
    trusted: ssl.SSLContext | None
    lanes: LaneShared
    listener: Listener
    obj: HeldObject
    path: str = "/b"
    answered: list[AnswerRecord] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    """Paths that went to the full path."""
    after_answer: list[Callable[[], object]] = field(default_factory=list)
    """Called once each in the pass of the loop behind the next answer of the full path."""

    def client(self, *, receive_buffer: int | None = None) -> RawClient:
        """A client of the kind that the listener is for."""
        tls = None if self.trusted is None else (self.trusted, NAME)
        return RawClient(*self.address, receive_buffer=receive_buffer, tls=tls)

    def request(self, span: str | None = None) -> bytes:
        """The head of a request for the object, as its lanes know it."""
        line = "" if span is None else f"Range: bytes={span}\r\n"
        return f"GET {self.path} HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n".encode()

    def connection(self) -> ClientConnection:
        """The only connection."""
        (connection,) = self.listener.connections
        return connection

    def lane(self) -> FastLane:
        """The lane of the only connection."""
        lane = self.connection().lane
        assert lane is not None
        return lane


def _entry(obj: HeldObject) -> HotEntry:
    label = RequestLabel(service="own", form="host", host=HOST, path="/b")
    lines = HitLines(b'ETag: "1"\r\n', b'ETag: "1"\r\n', float("inf"), 0.0, 0.0, 0)
    return HotEntry(obj.as_stored(), obj.file.representation, len(BODY), label, float("inf"), lines)


@asynccontextmanager
async def lane_scene(
    directory: Path, *, tls: bool, turn_bytes: int = 1 << 20, send_buffer: int | None = None
) -> AsyncIterator[LaneScene]:
    """A listener whose lanes know the object with and without a range; its server ends with the block."""
    (directory / "body").write_bytes(BODY)
    fd = os.open(directory / "body", os.O_RDONLY)
    obj, table, executor = HeldObject(OpenFile(fd)), HotTable(), ThreadPoolExecutor(2)
    answered: list[AnswerRecord] = []
    full: list[str] = []
    after_answer: list[Callable[[], object]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(ClientConnection, request.protocol)
        assert connection.wire is not None
        full.append(request.raw_path)
        if request.raw_path == "/file":
            await connection.wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            await connection.wire.send_file(fd, 0, len(BODY))
        else:
            await connection.wire.write(FULL)
        while after_answer:
            asyncio.get_running_loop().call_soon(after_answer.pop())
        return SentResponse(status=200, keep_alive=request.raw_path != "/last")

    lanes = LaneShared(
        table=table,
        clock=HandClock(),
        account=lambda answer, _known: answered.append(answer),
        under_way=UnderWay(lambda _answer: None),
        touch=lambda *_: None,
        turn_bytes=turn_bytes,
        executor=executor,
    )
    listener = Listener(
        handler,
        options=ServerOptions(),
        lanes=lanes,
        max_connections=100,
        on_error=lambda *_: None,
        on_limit=lambda *_: None,
        subnets=Subnets(),
        shared=SharedNetworks(),
    )
    trusted, context = _contexts(directory) if tls else (None, None)
    sock = socket.create_server(("127.0.0.1", 0))
    if send_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = await asyncio.get_running_loop().create_server(listener, sock=sock, ssl=context)
    scene = LaneScene(sock.getsockname()[:2], trusted, lanes, listener, obj, "/b", answered, full, after_answer)
    for head in (scene.request(), scene.request("0-0")):
        table.learn(head, _entry(obj), secure=tls)
    try:
        yield scene
    finally:
        server.close()
        await listener.shutdown(1.0)
        await server.wait_closed()
        executor.shutdown()
        os.close(fd)


def _contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    issued = _PKI.issue(NAME, days=(-1, 9))
    write_pair(directory, issued.chain_pem, key_pem(issued.key))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "node.pem", directory / "node.key")
    return ssl.create_default_context(cadata=cert_pem(_PKI.root).decode()), server


async def stuck(scene: LaneScene) -> None:
    """Until the lane of the only connection cannot go on, because its client takes nothing."""
    seen: list[int] = []

    async def stands_still() -> bool:
        if not scene.listener.connection_count:
            return False  # the last step of its handshake is still on the way
        seen.append(scene.lane()._sender.sent_bytes)
        return scene.lane().busy and len(seen) > 20 and len(set(seen[-20:])) == 1

    await eventually(stands_still)
