"""What was begun in a thread is accounted for, also when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.piece_map import PRESENT
from cacheserver.store.object.file import ObjectFile
from tests.support.stored import PIECE, body_of, bytes_on_disk, found, put, representation, running_store

REP = representation()


class Halted:
    """A blocking call that says when it has begun and waits to be let go."""

    def __init__(self, really: Callable[..., Any]) -> None:
        self._really = really
        self._begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, *args: Any) -> Any:
        self._begun.set()
        self.go_on.wait(10)
        return self._really(*args)

    async def begun(self) -> None:
        """Until a thread is inside the call."""
        await asyncio.get_running_loop().run_in_executor(None, self._begun.wait, 10)


async def cancelled_inside(work: asyncio.Task[Any], call: Halted) -> None:
    """Cancel a task while its thread is inside the call, then let the thread end."""
    await call.begun()
    work.cancel()
    call.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_a_commit_whose_caller_is_cancelled_is_counted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        obj = await store.create(REP)
        ledger = store.volumes[0].ledger
        call = Halted(ObjectFile.record_piece)
        monkeypatch.setattr(ObjectFile, "record_piece", lambda file, *args: call(file, *args))

        async def fill() -> None:
            digest = hashlib.sha256()
            with await store.reserve(obj, 0) as reservation:
                await store.write(obj, 0, body_of(REP)[:PIECE], digest)
                await store.commit(obj, 0, digest.digest(), reservation)

        await cancelled_inside(asyncio.create_task(fill()), call)
        assert obj.pieces.state(0) == PRESENT
        assert (ledger.reserved_bytes, ledger.stored_bytes) == (0, bytes_on_disk(tmp_path))


async def test_an_object_whose_creator_is_cancelled_is_known_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        call = Halted(ObjectFile.create)
        monkeypatch.setattr(ObjectFile, "create", call)
        await cancelled_inside(asyncio.create_task(store.create(REP)), call)
        await found(store, REP)
        assert not store.is_creating(REP.object_id)
        ledger = store.volumes[0].ledger
        assert (ledger.reserved_bytes, ledger.stored_bytes) == (0, bytes_on_disk(tmp_path))


async def test_a_write_that_was_begun_ends_before_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could overtake the next one at the same place, or come to a descriptor that was closed."""
    async with running_store(tmp_path) as store:
        obj = await store.create(REP)
        call, ended = Halted(ObjectFile.write_at), threading.Event()

        def written(file: ObjectFile, *args: Any) -> None:
            call(file, *args)
            ended.set()

        monkeypatch.setattr(ObjectFile, "write_at", written)
        work = asyncio.create_task(store.write(obj, 0, body_of(REP)[:PIECE], hashlib.sha256()))
        await cancelled_inside(work, call)
        assert ended.is_set()


async def test_a_check_holds_its_object_before_its_first_step(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, REP)
    async with running_store(tmp_path) as store:
        obj = await found(store, REP)
        asked = asyncio.create_task(store.check(obj, (0,)))
        await asyncio.sleep(0)
        asked.cancel()
        assert obj.held, "its caller may have gone, and the object been closed"
        await store.check(obj, (0,))
        assert obj.pieces.state(0) == PRESENT
