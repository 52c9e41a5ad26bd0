"""What the end of a flight means for its object: kept or given up, charged for what is there, the store left alone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cacheserver.core.errors import ConnectFailed, DiskError, StoreError, TruncatedBody
from cacheserver.store.object.file import ObjectFile
from tests.support.content import blob
from tests.support.filling import filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk, representation

BODY = blob(22, 5 * PIECE + 100)
REP = representation("a", len(BODY))
WANT = want_for()
ONCE = quick(parallel=1, tries=1)


def fails(*_args: object) -> None:
    raise DiskError("write", errno=errno.EIO)


@pytest.mark.parametrize("ignore_range", [True, False])
async def test_a_length_that_only_a_broken_whole_body_told_is_not_believed(tmp_path: Path, ignore_range: bool) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(ignore_range=ignore_range, break_after=100))
    async with filling(tmp_path, upstream, options=ONCE) as rig:
        obj = await rig.opened(WANT)
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert obj.obsolete is ignore_range


async def test_a_length_that_a_range_has_confirmed_is_believed(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(ignore_range=True, break_after=PIECE + 10))
    upstream.script.extend([Turn(break_after=10)] * 2)
    async with filling(tmp_path, upstream, options=quick(parallel=1, tries=2)) as rig:
        obj = await rig.opened(WANT)
        with pytest.raises(TruncatedBody):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert not obj.obsolete


async def test_an_object_of_one_whole_body_is_kept_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(ignore_range=True))
    monkeypatch.setattr(ObjectFile, "write_at", fails)
    async with filling(tmp_path, upstream, options=ONCE) as rig:
        obj = await rig.opened(WANT)
        with pytest.raises(StoreError):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert not obj.obsolete


async def test_a_flight_that_ends_before_its_first_byte_charges_nothing(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(refuse=ConnectFailed("no")))
    async with filling(tmp_path, upstream, options=ONCE) as rig:
        obj = await rig.store.create(REP)
        with pytest.raises(ConnectFailed):
            await rig.read(obj, WANT)
        await rig.assert_clean()
        assert not obj.torn
        assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path)


async def test_a_store_that_refused_is_left_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = ScriptedUpstream(BODY)
    async with filling(tmp_path, upstream, options=ONCE) as rig:
        obj = await rig.store.create(REP)
        with obj.holding():
            other = rig.coordinator.reader(obj, WANT, 4 * PIECE, 5 * PIECE, whole=False)
            with monkeypatch.context() as failing:
                failing.setattr(ObjectFile, "write_at", fails)
                with pytest.raises(StoreError):
                    await rig.read(obj, WANT, 0, PIECE, whole=False)
            asked = len(upstream.requests)
            with pytest.raises(StoreError):
                await rig.read(obj, WANT, 0, PIECE, whole=False)
            assert len(upstream.requests) == asked
            rig.fills[0]._refused_until_s = 0.0
            assert await rig.read(obj, WANT, 0, PIECE, whole=False) == BODY[:PIECE]
            other.close(reached=5 * PIECE)
        await rig.assert_clean()
