"""One worker as its owner sees it: what it was given, what it was lent, what it has said.

Owns: the numbers of lent objects, and which of them the worker still has a descriptor of. Must not choose what to lend.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from cacheserver.store.stored_object import StoredObject
from cacheserver.web.hot_table import MAX_ENTRIES, HotEntry
from cacheserver.workers import messages
from cacheserver.workers.channel import Channel


class Peer:
    """The owner's end of one worker."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_hello: Callable[[Peer], None],
        on_hand_back: Callable[[int, bytes], None],
        on_report: Callable[[Peer, messages.Report, int], None],
        on_log_lines: Callable[[bytes, int], None],
    ) -> None:
        self.pid = 0
        self.requests = 0
        """Answers that it has told of."""
        self.silent_turns = 0
        """How often it was nudged since it last said anything."""
        self.lost = asyncio.Event()
        """Set when nothing can be said to it or heard from it any more; its process may still run."""
        self._on_hello = on_hello
        self._on_hand_back = on_hand_back
        self._on_report = on_report
        self._on_log_lines = on_log_lines
        self._given = 0
        """Connections given, less those that came back."""
        self._closed = 0
        self._numbers: dict[StoredObject, int] = {}
        self._objects: dict[int, StoredObject] = {}
        self._shapes: dict[StoredObject, set[bytes]] = {}
        self._shape_count = 0
        self._leaving: dict[int, tuple[str, asyncio.Future[None]]] = {}
        """Withdrawn objects that it may still be sending, by number: id, and a future done at its first reply."""
        self._early = b""
        """The first bytes of the connection that it is handing back."""
        self._collecting: dict[int, asyncio.Future[None]] = {}
        self._next = 0
        self._channel = Channel(sock, on_message=self._on_message, on_lost=self._on_lost)

    @property
    def connections(self) -> int:
        """Client connections that it has."""
        return self._given - self._closed

    def say(self, message: messages.ToWorker, fd: int = -1) -> bool:
        """Send one message; False when it cannot be sent."""
        return self._channel.send(messages.encode(message), fd)

    # -- giving and lending --------------------------------------------------------------------------------------

    def give(self, fd: int, first: bytes = b"") -> bool:
        """Give it a client's connection; ``fd`` stays the caller's to close."""
        if len(first) > messages.FIRST_BYTES_LIMIT or not self.say(messages.Take(first), fd):
            return False
        self._given += 1
        return True

    def teach(self, shape: bytes, obj: StoredObject, entry: HotEntry) -> bool:
        """Lend it the object and teach it the shape, as far as it does not have them already."""
        if shape in self._shapes.get(obj, ()):
            return True
        number = self._numbers.get(obj)
        if number is None:
            number = self._next
            lend = messages.Lend(number, obj.pieces.length_bytes, obj.pieces.piece_size_bytes)
            if obj.file.fd < 0 or not self.say(lend, obj.file.fd):
                return False
            self._next += 1
            self._numbers[obj], self._objects[number] = number, obj
            self._shapes[obj] = set()
        if not self.say(messages.Learn(shape, number, entry.label, entry.fresh_until_s, entry.lines)):
            return False
        self._shapes[obj].add(shape)
        self._shape_count += 1
        if self._shape_count >= MAX_ENTRIES:
            self.forget_shapes()
        return True

    def withdraw(self, obj: StoredObject, *, cut: bool) -> None:
        """Have it answer from this object no more."""
        number = self._numbers.pop(obj, None)
        if number is None:
            return
        del self._objects[number]
        self._shape_count -= len(self._shapes.pop(obj))
        self._leave(number, obj)
        self.say(messages.Withdraw(number, cut))

    def _leave(self, number: int, obj: StoredObject) -> None:
        self._leaving[number] = (obj.object_id, asyncio.get_running_loop().create_future())

    def replies(self, object_id: str) -> list[asyncio.Future[None]]:
        """Futures of its first replies to withdrawals of this object."""
        return [reply for known, reply in self._leaving.values() if known == object_id]

    def keeps(self, object_id: str) -> bool:
        """Whether it may still be sending a withdrawn object."""
        return any(known == object_id for known, _reply in self._leaving.values())

    def has(self, obj: StoredObject) -> bool:
        """Whether it has this object now."""
        return obj in self._numbers

    def forget_shapes(self) -> None:
        """Everything that it was taught is void."""
        for shapes in self._shapes.values():
            shapes.clear()
        self._shape_count = 0
        self.say(messages.Clear())

    def nudge(self) -> None:
        """Have it say something, to see whether it can."""
        self.silent_turns += 1
        self.say(messages.Collect(0))

    def collect(self) -> asyncio.Future[None]:
        """Done when it has reported everything up to now, or is lost."""
        self._next += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.say(messages.Collect(self._next)):
            self._collecting[self._next] = done
        else:
            done.set_result(None)
        return done

    def lent(self, number: int) -> StoredObject | None:
        """The object of this number, while it is lent."""
        return self._objects.get(number)

    # -- what it says --------------------------------------------------------------------------------------------

    def _on_message(self, data: memoryview, fd: int) -> None:
        message = messages.to_owner.decode(data)
        self.silent_turns = 0
        if isinstance(message, messages.Early):
            self._early += message.data
        elif isinstance(message, messages.HandBack):
            first, self._early = self._early + message.first, b""
            self._given -= 1
            if fd >= 0:
                self._on_hand_back(fd, first)
        elif isinstance(message, messages.Report):
            answered, self.requests, self._closed = message.requests - self.requests, message.requests, message.closed
            self._on_report(self, message, answered)
            _finish(self._collecting.pop(message.number, None))
        elif isinstance(message, messages.LogLines):
            self._on_log_lines(message.lines, message.count)
        elif isinstance(message, messages.Kept):
            _finish(self._leaving[message.number][1])
        elif isinstance(message, messages.Given):
            _finish(self._leaving.pop(message.number)[1])
        else:
            self.pid = message.pid
            self._on_hello(self)

    def _on_lost(self) -> None:
        """It cannot be told anything: what it was lent it may go on sending until its process has ended."""
        for number, obj in self._objects.items():
            self._leave(number, obj)
        self._numbers.clear()
        self._objects.clear()
        self._shapes.clear()
        for done in self._collecting.values():
            _finish(done)
        self._collecting.clear()
        self._given = self._closed = 0
        self.lost.set()

    def close(self) -> None:
        """Let go of it; the worker ends when it notices."""
        if self._channel.open:
            self._channel.close()
            self._on_lost()

    def ended(self) -> None:
        """Its process is gone, and sends nothing any more."""
        for _object_id, reply in self._leaving.values():
            _finish(reply)
        self._leaving.clear()


def _finish(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
