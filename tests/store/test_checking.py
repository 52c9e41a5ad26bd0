"""What a check at rest finds is told, counted, and kept in quarantine where it is bad."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import pytest

from cacheserver.core.errors import DiskError
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.store import checking
from cacheserver.store.checking import Verdict
from cacheserver.store.object.file import ObjectFile
from tests.support.meter import CountingMeter
from tests.support.stored import PIECE, put, representation, running_store, settled

REP = representation()


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_a_check_tells_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    def unreadable(*_args: object) -> None:
        raise DiskError("read", errno=errno.EIO)

    meter = CountingMeter()
    async with running_store(tmp_path, meter=meter) as store:
        obj = await put(store, REP)
        if verdict is Verdict.BAD:
            obj.file.write_at(PIECE, b"\0\0\0\0")
        elif verdict is Verdict.UNREADABLE:
            monkeypatch.setattr(ObjectFile, "check_piece", unreadable)
        elif verdict is Verdict.GONE:
            store.drop_piece(obj, 1)
        else:
            obj.pieces.mark(1, STORED)
        assert await store.checker.recheck(obj, 1, store.executor) is verdict
        assert obj.pieces.state(1) == (PRESENT if verdict is Verdict.GOOD else ABSENT)
        word = "ok" if verdict is Verdict.GOOD else verdict.value
        assert meter.counts["verified", "at_rest", word] == (verdict is not Verdict.GONE)
        copy = tmp_path / "quarantine" / f"{REP.object_id}-1"
        assert copy.exists() is (verdict is Verdict.BAD)
        assert obj.condemned == ([1] if verdict is Verdict.BAD else []), "who has sent some of it is cut"


async def test_only_a_check_before_a_delivery_leaves_bytes_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []

    def noted(_fd: int, *span: int) -> nullcontext[None]:
        left.append(span)
        return nullcontext()

    monkeypatch.setattr(checking, "left_as_it_was", noted)
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        obj.pieces.mark(1, STORED)
        await store.check(obj, [1])
        assert left == []
        await store.checker.recheck(obj, 1, store.executor)
        assert left == [(PIECE, 2 * PIECE)]


async def test_who_is_cancelled_waits_for_the_thread_that_reads(tmp_path: Path) -> None:
    go_on = Event()
    async with running_store(tmp_path) as store:
        obj = await put(store, REP)
        with ThreadPoolExecutor(1) as executor:
            executor.submit(go_on.wait, 10)
            check = asyncio.create_task(store.checker.recheck(obj, 1, executor))
            await settled()
            check.cancel()
            await settled()
            assert not check.done()
            await store.forget(obj.object_id, reason="purged")
            assert obj.file.fd >= 0, "nobody works on a file that is closed"
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await check
        assert obj.file.fd < 0
