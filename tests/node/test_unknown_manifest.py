"""A manifest that could not be fetched is not "no manifest": it is asked for again, and held against what is stored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.node.verified_scene import BODY, PIECE, detail_of, flipped, verifying
from tests.support.client import ConnectionEnded
from tests.support.content import Fault
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, was_hit
from tests.support.manifests import phf, phf_path

FAILED = [Fault(status=500), Fault(status=503), Fault(reset_after=0), Fault(truncate_after=20)]


@pytest.mark.parametrize("fault", FAILED, ids=["500", "503", "reset", "truncated"])
async def test_after_a_restart_the_manifest_that_failed_is_asked_for_and_bad_pieces_go(
    tmp_path: Path, fault: Fault
) -> None:
    async with verifying(tmp_path) as scene:
        path = scene.hold(flipped(5))
        manifest = phf_path(path)
        scene.origin.fault(manifest, always=fault)
        assert (await scene.get(path, host=DO_HOST)).status == 200
        await scene.until_idle()
        scene.put(path, BODY)
        scene.origin.heal(manifest)
        await scene.node.restart()

        async def right() -> bool:
            response = await scene.get(path, host=DO_HOST)
            return response.body == BODY and detail_of(response) == "self_consistent"

        await eventually(right)


async def test_a_manifest_that_does_not_exist_is_not_asked_for_again(tmp_path: Path) -> None:
    async with verifying(tmp_path) as scene:
        path = scene.hold()
        scene.origin.fault(phf_path(path), always=Fault(status=404))
        assert (await scene.get(path)).body == BODY
        await scene.until_idle()
        asked = len(scene.origin.asked(phf_path(path)))
        await scene.node.restart()
        for _ in range(3):
            assert was_hit(await scene.get(path))
        assert len(scene.origin.asked(phf_path(path))) == asked


async def test_after_a_kill_while_the_manifest_was_pending_the_first_hit_is_compared(tmp_path: Path) -> None:
    async with verifying(tmp_path, fill="hold_timeout_s = 1.0") as scene:
        path = scene.hold(flipped(5))
        manifest = scene.origin.gate(phf_path(path))
        assert (await scene.get(path, ("Range", "bytes=0-9"), host=DO_HOST)).body == flipped(5)[:10]
        await scene.node.kill()
        scene.put(path, BODY)
        manifest.open()
        await scene.node.start()
        response = await scene.get(path, ("Range", "bytes=0-9"), host=DO_HOST)
        assert (response.status, response.body) == (206, BODY[:10])
        assert (await scene.get(path, host=DO_HOST)).body == BODY


async def test_no_part_of_a_larger_piece_goes_out_before_it_is_right_nor_after_a_kill_in_its_middle(
    tmp_path: Path,
) -> None:
    async with verifying(tmp_path) as scene:
        path = scene.hold(flipped(2 * PIECE + 5), manifest=phf(BODY, 2 * PIECE))
        tail = scene.origin.gate(path, at=3 * PIECE)
        assert (await scene.get(path, ("Range", "bytes=0-9"), host=DO_HOST)).body == BODY[:10]
        asking = asyncio.create_task(scene.get(path, ("Range", f"bytes={2 * PIECE}-{2 * PIECE + 9}"), host=DO_HOST))
        await tail.reached()
        await scene.node.kill()
        with pytest.raises(ConnectionEnded):
            await asking
        tail.open()
        await scene.node.start()
        bad = await scene.get(path, ("Range", f"bytes={2 * PIECE}-{2 * PIECE + 9}"), host=DO_HOST)
        assert (bad.status >= 500, await scene.counted("content_refused_total", reason="bad_piece") > 0) == (True, True)
        scene.put(path, BODY)
        whole = await scene.get(path, host=DO_HOST)
        assert (whole.body, detail_of(await scene.get(path, host=DO_HOST))) == (BODY, "self_consistent")
