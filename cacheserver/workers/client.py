"""One client connection in a worker: the fast lane, and the way to the owner for everything else.

Owns: handing a connection with its unanswered bytes on. Must not parse or answer anything by itself.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from cacheserver.core.client import PLAIN, Client
from cacheserver.core.subnets import Subnets
from cacheserver.web.fast_lane import LaneShared
from cacheserver.web.lane_senders import PlainLane


class Home(Protocol):
    """What a connection needs of its worker."""

    lanes: LaneShared
    subnets: Subnets
    draining: bool
    shedding: int
    """Connections that are to go back to the owner."""

    def hand_back(self, fd: int, first: bytes) -> bool:
        """Give a connection to the owner; ``fd`` stays the caller's. False: it cannot be given."""
        ...

    def joined(self, connection: WorkerConnection) -> None:
        """A connection is here."""
        ...

    def left(self, connection: WorkerConnection) -> None:
        """A connection is gone."""
        ...


class WorkerConnection(asyncio.Protocol):
    """The protocol of one client; ``first`` are bytes that were read before it came here."""

    def __init__(self, home: Home, first: bytes) -> None:
        self._home = home
        self._first = first
        self._half_closed = False
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.lane: PlainLane | None = None
        self.handed_back = False
        self.used_s = self._loop.time()
        """Loop time of the last answer's end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer what the client has asked for already."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        client = Client(address, PLAIN, self._home.subnets.group_of(address))
        self.lane = PlainLane(self._home.lanes, self.transport, client=client, done=self._lane_done)
        self._home.joined(self)
        first, self._first = self._first, b""
        if first:
            self.data_received(first)
        elif self._home.draining:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Answer from the lane, or hand the connection to the owner."""
        assert self.lane is not None
        if self._home.shedding and not self.lane.busy:
            self._home.shedding -= 1
            self._hand_back(data)
        elif not self.lane.take(data):
            self._hand_back(data)

    def _hand_back(self, data: bytes) -> None:
        transport = self.transport
        assert transport is not None
        transport.pause_reading()
        self.handed_back = self._home.hand_back(transport.get_extra_info("socket").fileno(), data)
        transport.abort()

    def _lane_done(self, pending: bytes) -> None:
        self.used_s = self._loop.time()
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if pending:
            self.data_received(pending)
        elif self._half_closed or self._home.draining:
            self.transport.close()

    def eof_received(self) -> bool:
        """A client that has closed its sending side still gets the answer under way."""
        self._half_closed = True
        return self.lane is not None and self.lane.busy

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give everything back."""
        if self.lane is not None:
            self.lane.close()
        self._home.left(self)

    @property
    def idle(self) -> bool:
        """Whether no answer is under way."""
        return self.lane is None or not self.lane.busy

    def close(self) -> None:
        """End an idle connection."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection; the answer under way is accounted for at once."""
        if self.lane is not None:
            self.lane.close()
        if self.transport is not None:
            self.transport.abort()
