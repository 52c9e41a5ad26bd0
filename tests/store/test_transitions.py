"""Transitions of one object at once, in drawn orders of their disk calls: the books stay right, no drive is blamed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import CacheserverError, GenerationChanged
from cacheserver.core.http.fields import Fields
from cacheserver.core.piece_map import STORED
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject, VaryMarker
from tests.support.stored import PIECE, put, put_pieces, representation, running_store, settled

SEEDS = range(8)
REP = representation("a", 6 * PIECE)
OTHER = representation("a", 9 * PIECE, etag='"2"')
ROOM = 60 * PIECE


class Stepped(Executor):
    """Does disk calls one at a time, in an order that is drawn, while everything else waits for them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[tuple[Callable[[], Any], Future[Any]]] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """See ``Executor``."""
        done: Future[Any] = Future()
        self._waiting.append((lambda: call(*args, **options), done))
        return done

    async def finish(self, *work: Awaitable[Any]) -> list[Any]:
        """The ends of all, errors of the node included; AssertionError where one waits for nothing."""
        tasks = [asyncio.ensure_future(each) for each in work]
        while not all(task.done() for task in tasks):
            await settled()
            if not self._waiting:
                assert all(task.done() for task in tasks), f"waits for ever: {tasks}"
                break
            call, done = self._waiting.pop(self._rng.randrange(len(self._waiting)))
            try:
                done.set_result(call())
            except BaseException as exc:
                done.set_exception(exc)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, CacheserverError):
                raise end
        return ends


async def create(store: Store) -> None:
    obj = await store.create(OTHER)
    with obj.holding():
        await put_pieces(store, obj, [0, 5])


async def refresh(store: Store) -> None:
    found = await store.find(REP.object_id)
    if isinstance(found, StoredObject):
        with found.holding():
            await store.refresh(found, replace(found.representation, response_time_s=2e9))


async def retire(store: Store) -> None:
    found = await store.find(REP.object_id)
    if isinstance(found, StoredObject):
        await store.retire(found, reason="superseded")


async def read(store: Store) -> None:
    found = await store.find(REP.object_id)
    if isinstance(found, StoredObject) and found.usable:
        with found.holding():
            await store.check(found, found.pieces.pieces_in_state(0, len(found.pieces), STORED))
            if found.obsolete:
                raise GenerationChanged("replaced while it was read")


async def lose_a_piece(store: Store) -> None:
    found = await store.find(REP.object_id)
    if isinstance(found, StoredObject) and found.usable:
        with found.holding():
            await store.erase(found, 1)


TRANSITIONS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "create": create,
    "refresh": refresh,
    "retire": retire,
    "read": read,
    "erase": lose_a_piece,
    "purge": lambda store: store.forget(REP.object_id, reason="purged"),
    "vary": lambda store: store.mark_vary(VaryMarker(REP.object_id, ("accept",)), service="own"),
    "evict": lambda store: store._reclaimer.free(store.volumes[0], ROOM),
}


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the list itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return links


def assert_books(store: Store, path: Path) -> None:
    """Files, rows, ledger and blocks say the same, no descriptor of a removed file is left, and no drive is blamed."""
    (volume,) = store.volumes
    files = {name.name: os.stat(name).st_blocks * 512 for name in (path / "objects").glob("??/*")}
    row = volume.catalogue.get(REP.object_id)
    assert list(files) == ([REP.object_id] if row is not None and not row.vary else [])
    assert volume.object_count == (row is not None)
    assert volume.ledger.stored_bytes == (512 if row is not None and row.vary else sum(files.values()))
    assert row is None or row.stored_bytes == volume.ledger.stored_bytes
    assert volume.ledger.reserved_bytes == 0
    assert not [link for link in open_files() if link.endswith("(deleted)") and str(path) in link]
    assert (volume.online, volume.error_count, len(volume.leftovers)) == (True, 0, 0)


async def put_anew(store: Store, *, closed: bool) -> None:
    """The object alone, open or not."""
    await store.forget(REP.object_id, reason="purged")
    await put(store, REP)
    if closed:
        store.write_rows()
        store._objects._close_least_recent(0)
        assert store.peek_quietly(REP.object_id) is None


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("first", TRANSITIONS)
async def test_transitions_at_once_leave_one_right_object(tmp_path: Path, first: str, closed: bool) -> None:
    async with running_store(tmp_path, capacity_bytes=ROOM) as store:
        threads = store.executor
        for second in TRANSITIONS:
            for seed in SEEDS:
                store.executor = store._objects.executor = threads
                await put_anew(store, closed=closed)
                rng = random.Random(f"{second} {seed}")
                stepped = store.executor = store._objects.executor = Stepped(rng)  # type: ignore[assignment]
                third = TRANSITIONS[rng.choice(list(TRANSITIONS))]
                await stepped.finish(TRANSITIONS[first](store), TRANSITIONS[second](store), third(store))
                (found,) = await stepped.finish(store.find(REP.object_id))
                assert found is None or isinstance(found, VaryMarker) or found.usable
                store.write_rows()
                assert_books(store, tmp_path)
        store.executor = store._objects.executor = threads


@pytest.mark.parametrize("what", ["retire", "refresh", "evict an extent", "last release"])
async def test_what_means_one_generation_leaves_a_newer_one_alone(tmp_path: Path, what: str) -> None:
    async with running_store(tmp_path, capacity_bytes=ROOM) as store:
        old = await put(store, REP)
        old.hold()
        new = await store.create(OTHER)
        if what == "retire":
            await store.retire(old, reason="superseded")
        elif what == "refresh":
            await store.refresh(old, replace(old.representation, fields=Fields((("X", "y" * 5000),))))
        elif what == "evict an extent":
            await store._reclaimer._evict_open(old, old.unit(0), 0)
        old.release()
        assert old.file.fd == -1
        assert store.peek(REP.object_id) is new
        store.write_rows()
        assert_books(store, tmp_path)


@pytest.mark.parametrize("what", ["refresh", "retire"])
@pytest.mark.parametrize("when", ["before", "waiting"])
async def test_what_means_an_object_that_nobody_holds_leaves_the_one_at_its_id_alone(
    tmp_path: Path, what: str, when: str
) -> None:
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        store.write_rows()
        newer = replace(REP, response_time_s=2e9)

        def close() -> None:
            store._objects._close_least_recent(0)

        if when == "before":
            close()
        async with store._objects.changing.holding(REP.object_id):
            meant = store.refresh(obj, newer) if what == "refresh" else store.retire(obj, reason="corrupt")
            working = asyncio.ensure_future(meant)
            await settled()
            close()
        await working
        found = await store.find(REP.object_id)
        assert isinstance(found, StoredObject)
        assert found.pieces.complete
        assert_books(store, tmp_path)
