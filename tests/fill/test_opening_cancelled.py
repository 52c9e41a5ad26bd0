"""Openings whose caller, or which themselves, are cancelled: nothing is lost and nothing is left behind."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from tests.support.content import blob
from tests.support.filling import SHIPPED, CancelAt, filling, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk, settled

BODY = blob(3, 5 * PIECE + 100)
WANT = want_for(service=SHIPPED)


async def test_a_caller_cancelled_at_any_await_leaves_the_opening_to_others(tmp_path: Path) -> None:
    for number in count(1):
        upstream = ScriptedUpstream(BODY)
        async with filling(tmp_path / str(number), upstream) as rig:
            work = CancelAt(rig.coordinator.open(WANT, (0, None)), number)
            await asyncio.gather(asyncio.create_task(_run(work)), return_exceptions=True)
            await rig.assert_clean()
            assert await rig.read(await rig.opened_or_found(WANT), WANT) == BODY
            await rig.assert_clean()
        if not work.reached:
            return


async def _run(work: CancelAt) -> None:
    await work


async def test_an_opening_cancelled_at_any_await_gives_everything_back(tmp_path: Path) -> None:
    for number in count(1):
        upstream = ScriptedUpstream(BODY)
        async with filling(tmp_path / str(number), upstream) as rig:
            work = CancelAt(rig.coordinator._open(WANT, (0, None)), number)
            await asyncio.gather(asyncio.create_task(_run(work)), return_exceptions=True)
            await rig.idle()
            await settled()
            assert rig.store.volumes[0].ledger.reserved_bytes == 0
            assert rig.store.volumes[0].ledger.stored_bytes == bytes_on_disk(tmp_path / str(number))
            await rig.assert_clean()
        if not work.reached:
            assert number > 2
            return


async def test_a_relayed_answer_that_nobody_waits_for_any_more_is_given_back(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY, fields=(("Cache-Control", "no-store"),))
    gate = asyncio.Event()
    upstream.script.append(Turn(head_gate=gate))
    async with filling(tmp_path, upstream) as rig:
        task = asyncio.create_task(rig.coordinator.open(WANT, (0, None)))
        await settled()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()
        await rig.assert_clean()
