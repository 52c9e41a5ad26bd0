"""Bodies on their way to a client: from the object file, while it fills, or past a store that fails.

Owns: the walk from offset to offset. A miss is a hit that waits: both end in the same ``send_file``. When the disk
fails under a delivery the rest comes straight from the source, and the client is none the wiser.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.errors import BadPiece, DiskError, GenerationChanged, StoreError
from cacheserver.core.piece_map import STORED
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.relay.relayed_body import BodySpan, OpenBody, Relay, RelayedBody
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.object_reply import ObjectReply
from cacheserver.web.sending.response import ResponseWriter

_STEP_PIECES = 4
_PASS_TRIES = 3
_DISK_TRIES = 3
"""Unreadable pieces in one part before the rest comes straight from the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Sends planned replies."""

    coordinator: Coordinator
    store: Store
    relay: Relay

    async def check_first(self, obj: StoredObject, reply: ObjectReply) -> None:
        """Hash the first piece that goes out, unless it was since the start: a bad one is gone then, and no hit."""
        for part in reply.parts[:1]:
            piece = obj.pieces.piece_at(part.start)
            if obj.pieces.state(piece) == STORED:
                await self.store.check(obj, (piece,))

    async def send(self, channel: ResponseWriter, want: Want, obj: StoredObject, reply: ObjectReply) -> bool:
        """Send one reply; the head goes out only once its first byte is at hand, so that a failure can still be 5xx.

        Whether all of it was stored, and right.
        """
        stored = True
        sent = _Sent(obj)
        for part in reply.parts:
            sent.begin(part.start)
            cursor = _Cursor(self, channel, want, obj, part.start, part.stop, reply.whole, sent)
            try:
                await cursor.ready()
                if not channel.head_sent:
                    await channel.start(reply.head)
                await channel.write(part.prefix)
                await cursor.send()
            finally:
                cursor.close()
            stored = stored and cursor.reader is None
        if not channel.head_sent:
            await channel.start(reply.head)
        await channel.write(reply.closing)
        await channel.finish()
        return stored

    async def past_store(
        self, want: Want, obj: StoredObject, reader: Reader, start: int, stop: int, *, began: int
    ) -> RelayedBody:
        """Bytes ``[start, stop)`` straight from a source, of the same generation or not at all (I5).

        With a manifest each piece comes once it is right, and the last one of a whole once the whole is (I1).
        GenerationChanged for the rest of a whole that ``began`` in the store and must be judged as a whole.
        """
        metadata = await reader.metadata()
        metadata.refuse_blocked(self.relay.meter, obj.object_id)
        known = obj.representation
        is_rest = start > began == 0 and stop == known.length_bytes
        if is_rest and any(claim.authentic for claim in metadata.of_whole(self.relay.piece_size_bytes)):
            raise GenerationChanged("the rest alone cannot be held against what is said of the whole")
        opened: OpenBody | None = None

        async def ask(first: int, end: int, avoid: frozenset[str]) -> Opened:
            return await self.relay.asker.ask_span(want, known, first, end, avoid)

        if not known.combinable:  # one answer, or none
            if start > 0:
                raise GenerationChanged("the object cannot be completed")
            only = await ask(start, stop, frozenset())
            opened = OpenBody(only.answer, only.accepted.start, stop=only.accepted.stop)
        span = BodySpan(start, stop, known.length_bytes)
        again = ask if known.combinable else None
        body = RelayedBody(
            self.relay,
            want,
            metadata,
            span,
            opened=opened,
            ask=again,
            tries=_PASS_TRIES,
            by_now=lambda _known: reader.metadata(),
        )
        stated = body.verified or metadata.of_whole(self.relay.piece_size_bytes)
        if stated and reader.has_tasted(start):
            body.close()
            raise BadPiece(obj.pieces.piece_at(start))  # it may have been wrong, and the rest of it would be right
        return body


class _Sent:
    """What one answer has sent of an object, to be cut once some of it proves bad (I1)."""

    __slots__ = ("_parts", "_since", "obj")

    def __init__(self, obj: StoredObject) -> None:
        self.obj = obj
        self._since = len(obj.condemned)
        self._parts: list[list[int]] = []

    def begin(self, start: int) -> None:
        """A part begins at byte ``start``."""
        self._parts.append([start, start])

    def refuse_spoilt(self, at: int) -> None:
        """BadPiece where a piece of which bytes were sent was condemned since; the part in hand has come to ``at``."""
        self._parts[-1][1] = at
        if len(self.obj.condemned) > self._since:
            for start, stop in self._parts:
                if self.obj.is_spoilt(self._since, start, stop):
                    raise BadPiece(self.obj.condemned[-1])
            self._since = len(self.obj.condemned)  # what is sent from now on of those pieces is of their good copies


@dataclass(slots=True)
class _Cursor:
    """The position of one delivery inside one part."""

    delivery: Delivery
    channel: ResponseWriter
    want: Want
    obj: StoredObject
    at: int
    stop: int
    whole: bool
    sent: _Sent
    readable: int = 0
    past_store: bool = False
    disk_errors: int = 0
    reader: Reader | None = None
    relayed: RelayedBody | None = None
    chunk: bytes = b""
    """What ``relayed`` has given and is not sent yet."""
    relayed_from: int = 0
    """Where it began: what came before was sent from the store."""
    began: int = 0

    def __post_init__(self) -> None:
        self.began = self.at
        if self.obj.pieces.stored_until(self.at, self.stop) < self.stop:
            self.reader = self._new_reader()

    def _new_reader(self) -> Reader:
        return self.delivery.coordinator.reader(self.obj, self.want, self.at, self.stop, whole=self.whole)

    async def ready(self) -> None:
        """Until at least one byte at the position may be sent, from here or past the store."""
        pieces = self.obj.pieces
        self.sent.refuse_spoilt(self.at)
        while self.readable <= self.at:
            if self.past_store:
                await self._relay()
                return
            step = min(self.stop, self.at + _STEP_PIECES * pieces.piece_size_bytes)
            if self.reader is None:
                self.readable = pieces.present_until(self.at, step)
                if self.readable > self.at:
                    return
                if pieces.state(pieces.piece_at(self.at)) == STORED:
                    await self.delivery.store.check(self.obj, (pieces.piece_at(self.at),))
                    continue
                self.reader = self._new_reader()
            try:
                self.readable = min(step, await self.reader.readable(self.at))
            except StoreError:
                self.past_store = True

    async def _relay(self) -> None:
        """Have the rest come past the store; its first bytes are at hand then."""
        assert self.reader is not None, "only a reader's object fails"
        self.relayed_from = self.at
        self.relayed = await self.delivery.past_store(
            self.want, self.obj, self.reader, self.at, self.stop, began=self.began
        )
        self.chunk = await self.relayed.read()

    async def send(self) -> None:
        """Send everything from the position to the end of the part."""
        while self.at < self.stop:
            if self.relayed is None:
                await self.ready()
            if self.relayed is not None:
                self.sent.refuse_spoilt(self.relayed_from)
                await self.channel.write(self.chunk)
                self.at += len(self.chunk)
                self.chunk = await self.relayed.read()
                continue
            before = self.channel.body_bytes
            try:
                await self.channel.send_file(self.obj.file.fd, self.at, self.readable, self._still)
            except DiskError:
                unreadable = self.obj.pieces.piece_at(self.at + self.channel.body_bytes - before)
                self.delivery.store.drop_piece(self.obj, unreadable)
                self.readable = 0
                self.disk_errors += 1
                self.past_store = self.disk_errors >= _DISK_TRIES
            self.at += self.channel.body_bytes - before
            if self.at < self.readable:
                self.readable = 0  # what follows is not there any more: look again

    def _still(self, start: int, stop: int) -> bool:
        """Whether bytes ``[start, stop)`` may go out now. BadPiece where some that are out have proved bad (I1)."""
        self.sent.refuse_spoilt(start)
        if self.reader is not None:
            return self.reader.still(start, stop)
        return self.obj.pieces.present_until(start, stop) >= stop

    def close(self) -> None:
        """Give reader and source back."""
        if self.relayed is not None:
            self.relayed.close()
        if self.reader is not None:
            self.reader.close(reached=self.at)
