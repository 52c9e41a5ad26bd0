"""Bodies on their way to a client: from the object file, while it fills, or past a store that fails.

Owns: the walk from offset to offset. A miss is a hit that waits: both end in the same ``send_file``. When the disk
fails under a delivery the rest comes straight from the source, and the client is none the wiser.
"""

from __future__ import annotations

from cacheserver.core.errors import BadPiece, DiskError, GenerationChanged, StoreError
from cacheserver.core.piece_map import STORED
from cacheserver.fill.asking import Opened, Want
from cacheserver.fill.coordinator import Coordinator
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.relay.relayed_body import BodySpan, Relay, RelayedBody
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.answer.object_reply import ObjectReply
from cacheserver.web.sending.response import ResponseWriter

_STEP_PIECES = 4
_PASS_TRIES = 3
_DISK_TRIES = 3
"""Unreadable pieces in one part before the rest comes straight from the source."""


class Delivery:
    """Sends planned replies."""

    def __init__(self, *, coordinator: Coordinator, store: Store, relay: Relay) -> None:
        self.coordinator = coordinator
        self.store = store
        self._relay = relay

    async def send(self, channel: ResponseWriter, want: Want, obj: StoredObject, reply: ObjectReply) -> None:
        """Send one reply; the head goes out only once its first byte is at hand, so that a failure can still be 5xx."""
        for part in reply.parts:
            cursor = _Cursor(self, channel, want, obj, part.start, part.stop, whole=reply.whole)
            try:
                await cursor.ready()
                if not channel.head_sent:
                    await channel.start(reply.head)
                await channel.write(part.prefix)
                await cursor.send()
            finally:
                cursor.close()
        if not channel.head_sent:
            await channel.start(reply.head)
        await channel.write(reply.closing)
        await channel.finish()

    async def past_store(
        self, channel: ResponseWriter, want: Want, obj: StoredObject, reader: Reader, start: int, stop: int
    ) -> None:
        """Send bytes ``[start, stop)`` straight from a source, of the same generation or not at all (I5).

        With a manifest each piece goes out once it is right, and the last one of a whole once the whole is (I1).
        """
        metadata = await reader.metadata()
        metadata.refuse_blocked()

        async def ask(first: int, end: int, avoid: frozenset[str]) -> Opened:
            return await self._relay.asker.ask_span(want, obj.representation, first, end, avoid)

        span = BodySpan(start, stop, obj.representation.length_bytes)
        body = RelayedBody(self._relay, want, metadata, span, ask=ask, tries=_PASS_TRIES)
        if body.verified and reader.has_tasted(start):
            raise BadPiece(obj.pieces.piece_at(start))  # it may have been wrong, and the rest of it would be right
        try:
            while data := await body.read():
                await channel.write(data)
        finally:
            body.close()


class _Cursor:
    """The position of one delivery inside one part."""

    def __init__(
        self,
        delivery: Delivery,
        channel: ResponseWriter,
        want: Want,
        obj: StoredObject,
        start: int,
        stop: int,
        *,
        whole: bool,
    ) -> None:
        self._delivery = delivery
        self._channel = channel
        self._want = want
        self._obj = obj
        self._at = start
        self._stop = stop
        self._whole = whole
        self._readable = start
        self._past_store = False
        self._disk_errors = 0
        self._reader: Reader | None = None
        if obj.pieces.stored_until(start, stop) < stop:
            self._reader = delivery.coordinator.reader(obj, want, start, stop, whole=whole)

    async def ready(self) -> None:
        """Until at least one byte at the position may be sent, from here or past the store."""
        pieces = self._obj.pieces
        while self._readable <= self._at and not self._past_store:
            # In steps, so that a piece found bad at rest while those before it go out is not sent any more (I1).
            step = min(self._stop, self._at + _STEP_PIECES * pieces.piece_size_bytes)
            if self._reader is None:
                self._readable = pieces.present_until(self._at, step)
                if self._readable > self._at:
                    return
                if pieces.state(pieces.piece_at(self._at)) == STORED:
                    await self._delivery.store.check(self._obj, (pieces.piece_at(self._at),))
                    continue
                if self._obj.obsolete:
                    raise GenerationChanged("the object was replaced")
                self._reader = self._delivery.coordinator.reader(
                    self._obj, self._want, self._at, self._stop, whole=self._whole
                )
            try:
                self._readable = min(step, await self._reader.readable(self._at))
            except StoreError:
                self._past_store = True

    async def send(self) -> None:
        """Send everything from the position to the end of the part."""
        while self._at < self._stop:
            await self.ready()
            if self._past_store:
                assert self._reader is not None, "only a reader's object fails"
                await self._delivery.past_store(
                    self._channel, self._want, self._obj, self._reader, self._at, self._stop
                )
                self._at = self._stop
                return
            before = self._channel.body_bytes
            try:
                await self._channel.send_file(self._obj.file.fd, self._at, self._readable)
            except DiskError:
                unreadable = self._obj.pieces.piece_at(self._at + self._channel.body_bytes - before)
                self._delivery.store.drop_piece(self._obj, unreadable)
                self._readable = 0
                self._disk_errors += 1
                self._past_store = self._disk_errors >= _DISK_TRIES
            self._at += self._channel.body_bytes - before

    def close(self) -> None:
        """Give the reader back."""
        if self._reader is not None:
            self._reader.close(reached=self._at)
