"""The invariants of a simulated node that can be seen from outside, at any step, and a watchdog for its readers.

Owns I2 to I5, I9, I10, and that no reader waits without a flight. Must not change anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from typing import Any

from cacheserver.core.piece_map import ABSENT, PRESENT
from cacheserver.fill.object.fill import ObjectFill
from cacheserver.fill.object.flight import Flight
from cacheserver.fill.object.reader import Reader
from cacheserver.fill.slots import AnswerInSlot
from cacheserver.store.stored_object import StoredObject
from tests.faults.disk_layer import DiskLayer, works
from tests.faults.simulated import SimulatedAnswer, SimulatedUpstream
from tests.support.filling import Rig
from tests.support.stored import PIECE

UPWARD = {"range", "if-range", "if-none-match", "accept-encoding", "via"}
_LOOK_S = 0.25
_LONELY_LOOKS = 4
"""Simulated looks in a row after which a waiting reader should have been planned for."""


class Invariants:
    """Of one simulation."""

    def __init__(self, rig: Rig, upstream: SimulatedUpstream, layer: DiskLayer) -> None:
        self._rig = rig
        self._upstream = upstream
        self._layer = layer
        self._lonely: dict[tuple[Reader, int], int] = {}
        self._found: str | None = None
        self._watch_removals()

    def _watch_removals(self) -> None:
        """Whoever retires a generation removes that one, not the one that has taken its place."""
        store, meant = self._rig.store, dict[asyncio.Task[Any] | None, StoredObject]()
        retire, drop_open = store.retire, store._remover.drop_open

        async def watched_retire(obj: StoredObject, *, reason: str) -> None:
            task = asyncio.current_task()  # not a context: what it starts would have it too
            meant[task] = obj
            try:
                await retire(obj, reason=reason)
            finally:
                del meant[task]

        async def watched_drop(obj: StoredObject, *, reason: str) -> None:
            if meant.get(asyncio.current_task(), obj) is not obj:
                self._found = f"a generation of {obj.representation.key} is removed that was not meant"
            await drop_open(obj, reason=reason)

        store.retire, store._remover.drop_open = watched_retire, watched_drop  # type: ignore[method-assign]

    def check(self) -> None:
        """All of them now; AssertionError where one does not hold."""
        assert self._found is None, self._found
        for volume in self._rig.store.volumes:
            ledger = volume.ledger
            assert ledger.reserved_bytes >= 0, "I4"
            assert 0 <= ledger.stored_bytes + ledger.reserved_bytes <= ledger.capacity_bytes, "I4"
        for obj in list(self._rig.store._objects._open.values()):
            if isinstance(obj, StoredObject) and obj.usable:
                self._check_object(obj)
        self._check_fetches()
        for request in self._upstream.requests:
            assert request.place.host == "a.test", f"I9: {request.place.host}"
            assert {name.lower() for name, _ in request.fields} <= UPWARD, f"I10: {request.fields}"
        self._upstream.requests.clear()

    def _check_object(self, obj: StoredObject) -> None:
        """I3 and I5 of one object, past the layer of faults."""
        rule, self._layer.rule = self._layer.rule, works
        etag, path = obj.representation.validators.etag, obj.representation.path_and_query
        body = next(g.body for g in self._upstream.generations[path] if g.etag == etag)
        for piece in obj.pieces.pieces_in_state(0, len(obj.pieces), PRESENT):
            start, stop = obj.pieces.bounds(piece)
            data = os.pread(obj.file.fd, stop - start, start)
            assert data == body[start:stop], f"I5: piece {piece} of {obj.representation.key}"
            assert obj.file.digest_of(piece) == hashlib.sha256(data).digest(), f"I3: piece {piece}"
        self._layer.rule = rule

    def _check_fetches(self) -> None:
        """I2: of one object, no piece is on its way twice. Who reads past the store has requests of its own."""
        self._adopt_openings()
        seen: set[tuple[StoredObject, int]] = set()
        for answer in self._upstream.open_answers:
            obj = answer.fetched_for
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", answer.request.fields.value("Range") or "")
            if not isinstance(obj, StoredObject) or answer.status not in (200, 206):
                continue
            # A source that ignores Range sends all, of which the fill takes what it has asked for.
            start, stop = (int(asked[1]), int(asked[2]) + 1) if asked is not None else (0, len(obj.pieces) * PIECE)
            # A piece that has come whole may have been lost on the disk since, and be asked for again.
            for piece in range(max(start, answer.position) // PIECE, min(len(obj.pieces), -(-stop // PIECE))):
                twice = (obj, piece) in seen and obj.pieces.state(piece) == ABSENT
                assert not twice, f"I2: piece {piece} of {obj.representation.key} twice"
                seen.add((obj, piece))

    def _adopt_openings(self) -> None:
        """The answer to an opening belongs to the object that was made of it, from its first flight on."""
        for fill in self._rig.fills:
            for flight in fill.flights:
                held = flight.opened.answer if flight.opened is not None else None
                answer = held._answer if isinstance(held, AnswerInSlot) else None
                if isinstance(answer, SimulatedAnswer):
                    answer.fetched_for = fill.obj

    # -- readers ------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at every reader until cancelled; what is found is said by the next ``check``."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()

    def _look(self) -> None:
        lonely = {}
        for fill in self._rig.fills:
            for piece, owner in fill.progress.claims.items():
                if isinstance(owner, Flight) and owner not in fill.flights:
                    self._found = (
                        f"piece {piece} of {fill.obj.representation.key} is claimed by a flight that has ended"
                    )
            for reader in fill.demand.readers:
                waits_for = _waits_for(fill, reader)
                if waits_for is not None:
                    lonely[reader, waits_for] = self._lonely.get((reader, waits_for), 0) + 1
        self._lonely = lonely
        for (_reader, piece), looks in lonely.items():
            if looks >= _LONELY_LOOKS:
                self._found = f"a reader waits for piece {piece} and no flight is under way"


def _waits_for(fill: ObjectFill, reader: Reader) -> int | None:
    """The piece that a reader waits for although nothing of its object is on its way."""
    if not reader._waiting or fill.flights:
        return None
    piece = fill.obj.pieces.piece_at(reader._offset)
    return None if piece in fill.progress.claims else piece
