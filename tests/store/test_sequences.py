"""After any sequence of operations the ledger is what the disk holds, and nothing in use is lost."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import StoreFull
from cacheserver.core.piece_map import ABSENT
from cacheserver.store.ledger import Ledger
from cacheserver.store.store import MARKER_BYTES, Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.support.stored import (
    PIECE,
    body_of,
    bytes_on_disk,
    put_pieces,
    representation,
    running_store,
    settled,
)

NAMES = [f"o{number}" for number in range(8)]
LENGTHS = (0, 10, PIECE, 3 * PIECE + 5, 9 * PIECE, 14 * PIECE + 1)
CAPACITY = 40 * PIECE


class Play:
    """Random operations on one store, each checked against the bodies that the objects must have."""

    def __init__(self, store: Store, seed: int, filling: set[StoredObject] | None = None) -> None:
        self.store = store
        self.filling = set() if filling is None else filling
        """Objects that somebody fills right now: two never fetch one piece (I2)."""
        self.random = random.Random(seed)
        self.held: list[StoredObject] = []
        self.markers: set[str] = set()

    def representation(self) -> Representation:
        name = self.random.choice(NAMES)
        return representation(name, LENGTHS[NAMES.index(name) % len(LENGTHS)])

    async def create(self) -> None:
        rep = self.representation()
        obj = await self.store.create(rep)
        self.markers.discard(rep.object_id)
        await self._fill(obj)

    async def fill_more(self) -> None:
        obj = await self.store.find(self.representation().object_id)
        if isinstance(obj, StoredObject):
            await self._fill(obj)

    async def _fill(self, obj: StoredObject) -> None:
        if obj in self.filling or not obj.usable:
            return
        obj.hold()
        self.filling.add(obj)
        try:
            missing = obj.pieces.pieces_in_state(0, len(obj.pieces), ABSENT)
            await put_pieces(self.store, obj, self.random.sample(missing, self.random.randint(0, len(missing))))
        finally:
            self.filling.discard(obj)
            obj.release()

    async def read(self) -> None:
        rep = self.representation()
        obj = await self.store.find(rep.object_id)
        if not isinstance(obj, StoredObject) or not obj.usable:
            return
        obj.hold()
        self.store.touch(obj, 0, len(obj.pieces))
        await self.store.check(obj, obj.pieces.pieces_in_state(0, len(obj.pieces), 1))
        self._assert_readable(obj)
        obj.release()

    async def hold(self) -> None:
        obj = await self.store.find(self.representation().object_id)
        if isinstance(obj, StoredObject) and obj.usable and len(self.held) < 2:
            obj.hold()
            self.held.append(obj)

    async def release(self) -> None:
        if self.held:
            obj = self.held.pop(0)
            self._assert_readable(obj)
            obj.release()

    async def forget(self) -> None:
        rep = self.representation()
        await self.store.forget(rep.object_id, reason="purged")
        self.markers.discard(rep.object_id)

    async def mark_vary(self) -> None:
        rep = self.representation()
        await self.store.mark_vary(VaryMarker(rep.object_id, ("accept",)), service="own")

    async def refresh(self) -> None:
        obj = await self.store.find(self.representation().object_id)
        if isinstance(obj, StoredObject):
            await self.store.refresh(obj, replace(obj.representation, response_time_s=self.random.random()))

    async def rows(self) -> None:
        self.store.write_rows()

    def _assert_readable(self, obj: StoredObject) -> None:
        body = body_of(obj.representation)
        for piece in obj.pieces.pieces_in_state(0, len(obj.pieces), 2):
            start, stop = obj.pieces.bounds(piece)
            assert os.pread(obj.file.fd, stop - start, start) == body[start:stop]

    async def step(self) -> None:
        often = (self.create, self.create, self.fill_more, self.fill_more, self.read, self.read, self.read)
        seldom = (self.hold, self.release, self.forget, self.mark_vary, self.refresh, self.rows)
        operation = self.random.choice((*often, *seldom))
        try:
            await operation()
        except StoreFull:
            pass

    async def marker_bytes(self) -> int:
        markers = [await self.store.find(representation(name).object_id) for name in NAMES]
        return MARKER_BYTES * sum(isinstance(marker, VaryMarker) for marker in markers)


def assert_within(ledger: Ledger) -> None:
    assert ledger.reserved_bytes == 0
    assert 0 <= ledger.stored_bytes <= ledger.capacity_bytes


@pytest.mark.parametrize("seed", range(12))
async def test_the_ledger_is_what_the_disk_holds_after_any_sequence(tmp_path: Path, seed: int) -> None:
    for round_ in range(3):
        async with running_store(tmp_path, capacity_bytes=CAPACITY, open_objects=4, clean=round_ % 2 == 0) as store:
            play = Play(store, seed * 10 + round_)
            ledger = store.volumes[0].ledger
            for _ in range(120):
                await play.step()
                assert_within(ledger)
            while play.held:
                await play.release()
            assert ledger.stored_bytes == bytes_on_disk(tmp_path) + await play.marker_bytes()


@pytest.mark.parametrize("seed", range(12))
async def test_it_is_so_too_when_operations_overlap(tmp_path: Path, seed: int) -> None:
    async with running_store(tmp_path, capacity_bytes=CAPACITY, open_objects=6) as store:
        filling: set[StoredObject] = set()
        plays = [Play(store, seed * 100 + number, filling) for number in range(4)]

        async def act(play: Play, own_names: list[str]) -> None:
            operations = (play.fill_more, play.read, play.read, play.forget, play.hold, play.release, play.refresh)
            for _ in range(60):
                try:
                    if play.random.random() < 0.3:
                        await play._fill(await store.create(representation(play.random.choice(own_names), 9 * PIECE)))
                    else:
                        await play.random.choice(operations)()
                except StoreFull:
                    pass

        await asyncio.gather(*(act(play, NAMES[number * 2 : number * 2 + 2]) for number, play in enumerate(plays)))
        for play in plays:
            while play.held:
                await play.release()
        await settled()
        assert_within(store.volumes[0].ledger)
        assert store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)
