"""One object as the other packages see it: its representation, its piece map and its use count.

Owns: the use count. While it is not 0, because bytes are on their way to a client or from a source, the descriptor
stays open and the object is not evicted. Must not touch the disk.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import GenerationChanged, Withdrawn
from cacheserver.core.object_life import Event, Life, after
from cacheserver.core.piece_map import ABSENT, PieceMap
from cacheserver.store.catalogue.record import MAX_BYTES, CatalogueRecord
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.layout import on_disk
from cacheserver.store.volume import Volume

USE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class VaryMarker:
    """Stands at a primary key whose origin selects by request fields; the variants have ids of their own."""

    object_id: str
    names: tuple[str, ...]
    number: int = 0
    """Which marker of this key it is; in the row it stands in place of the length."""

    @classmethod
    def new(cls, object_id: str, names: tuple[str, ...]) -> VaryMarker:
        """One that leads to nothing that is stored already."""
        return cls(object_id, names, secrets.randbelow(MAX_BYTES))


class StoredObject:
    """One generation of one object.

    ``life`` is its state in ``core.object_life``. ``obsolete``: it was superseded, evicted, purged or found corrupt.
    Its holders may still read pieces that are PRESENT, nothing is written to it, and it can no longer be found.
    ``superseded``: another generation takes its place, or its content proved wrong.
    """

    __slots__ = (
        "_holders",
        "_next_use_s",
        "charged_bytes",
        "condemned",
        "erasing",
        "extent_pieces",
        "file",
        "judged_in",
        "kept_digests",
        "life",
        "obsolete",
        "superseded",
        "torn",
        "volume",
        "when_gone",
    )

    def __init__(self, *, file: ObjectFile, volume: Volume, extent_pieces: int, life: Life) -> None:
        self.file = file
        self.volume = volume
        self.extent_pieces = extent_pieces
        self.charged_bytes = 0
        self.torn: set[int] = set()
        """ABSENT pieces whose blocks are on disk and charged: begun and not finished, or found bad."""
        self.kept_digests: set[int] = set()
        """ABSENT pieces whose records still name their digests: found bad at rest, or not readable."""
        self.condemned: list[int] = []
        """Pieces that were in service and found bad, in that order; a sender notes how many when it begins."""
        self.life = life
        self.obsolete = False
        self.superseded = False
        self.judged_in = 0
        """The era of statements about contents in which its trust was judged last; 0: not since it was opened."""
        self.erasing: asyncio.Future[None] | None = None
        """Set while an extent is being evicted, which holds the object; nothing else can until it is done."""
        self.when_gone: Callable[[], None] | None = None
        """Called when a removed object's descriptor is closed and its blocks are free."""
        self._holders = 0
        self._next_use_s: dict[int, float] = {}

    @property
    def object_id(self) -> str:
        """32 hex digits."""
        return self.file.representation.object_id

    @property
    def representation(self) -> Representation:
        """Fields, validators and times; replaced as a whole when it is revalidated."""
        return self.file.representation

    @property
    def pieces(self) -> PieceMap:
        """State of each piece."""
        return self.file.pieces

    def used_again(self, extent: int) -> bool:
        """Whether this use of an extent counts: one download in many ranges, or of many clients at once, is one use."""
        now_s = time.monotonic()
        if now_s < self._next_use_s.get(extent, 0.0):
            return False
        self._next_use_s[extent] = now_s + USE_WINDOW_S
        return True

    def cost_bytes(self, piece: int) -> int:
        """What a piece takes on disk."""
        return on_disk(self.pieces.size_bytes(piece))

    def row(self) -> CatalogueRecord:
        """Its row in the catalogue."""
        return CatalogueRecord(
            length_bytes=self.representation.length_bytes,
            stored_bytes=self.charged_bytes,
            complete=self.pieces.complete,
            service=self.representation.service,
            vary=(),
        )

    @property
    def usable(self) -> bool:
        """Whether it may still be taken hold of: not replaced, closed or losing an extent since it was found."""
        return not self.obsolete and self.erasing is None and self.file.fd >= 0

    def refuse_gone(self) -> None:
        """Raise where nothing can be added to it: GenerationChanged, or Withdrawn where a source may still have it."""
        if self.superseded:
            raise GenerationChanged("the object was replaced")
        if self.obsolete:
            raise Withdrawn("the object was removed")

    @property
    def held(self) -> bool:
        """Whether a reader or a fill uses the object; such an object is not evicted."""
        return self._holders > 0

    @property
    def extent_count(self) -> int:
        """Number of units in which this object is evicted; 1 for all but large ones."""
        return max(1, -(-len(self.pieces) // self.extent_pieces))

    def extent_pieces_span(self, extent: int) -> tuple[int, int]:
        """Half-open piece span of one extent."""
        first = extent * self.extent_pieces
        return first, min(first + self.extent_pieces, len(self.pieces))

    def unit_of(self, piece: int) -> bytes:
        """Key of the eviction unit that holds a piece."""
        return self.unit(piece // self.extent_pieces)

    def unit(self, extent: int) -> bytes:
        """Key of one eviction unit."""
        return unit_key(self.object_id, extent if self.extent_count > 1 else None)

    def advance(self, event: Event) -> None:
        """Go to the next state of its life, and close the descriptor where that has none."""
        self.life = after(self.life, event)
        self.obsolete = self.life in (Life.RETIRING, Life.GONE)
        if self.life in (Life.CLOSED, Life.GONE):
            self.file.close()
        if self.life is Life.GONE and self.when_gone is not None:
            self.when_gone()

    def condemn(self, piece: int) -> None:
        """Take a piece out of service whose bytes are bad; whoever has sent some of it cuts its answer."""
        self.pieces.mark(piece, ABSENT)
        self.condemned.append(piece)

    def is_spoilt(self, since: int, start: int, stop: int) -> bool:
        """Whether a piece of bytes ``[start, stop)`` was condemned after the first ``since`` were."""
        if len(self.condemned) == since or start >= stop:
            return False
        first, end = self.pieces.covering(start, stop)
        return any(first <= piece < end for piece in self.condemned[since:])

    def hold(self) -> None:
        """Keep the descriptor open; pair with ``release``."""
        self._holders += 1

    def release(self) -> None:
        """End one ``hold``; the last one closes the descriptor of an obsolete object."""
        self._holders -= 1
        assert self._holders >= 0, "released more often than held"
        if self.life is Life.RETIRING and not self._holders:
            self.advance(Event.LAST_RELEASE)

    def hold_for(self, task: asyncio.Task[Any]) -> None:
        """``hold`` until a task ends, from now on: before its first step its caller may have left."""
        self.hold()
        task.add_done_callback(lambda _ended: self.release())

    @contextmanager
    def holding(self) -> Iterator[None]:
        """``hold`` for the length of a ``with`` block."""
        self.hold()
        try:
            yield
        finally:
            self.release()


def unit_key(object_id: str, extent: int | None) -> bytes:
    """16 bytes for a whole object, two more (big-endian) for one extent of a large one."""
    whole = bytes.fromhex(object_id)
    return whole if extent is None else whole + extent.to_bytes(2, "big")


def split_unit(unit: bytes) -> tuple[str, int | None]:
    """Object id and extent of a unit key."""
    return unit[:16].hex(), int.from_bytes(unit[16:], "big") if len(unit) > 16 else None
