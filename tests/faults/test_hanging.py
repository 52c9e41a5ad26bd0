"""A drive that hangs when it is tried again: the others' clients do not wait for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cacheserver.core.errors import VolumeOffline
from cacheserver.store.volume import Volume
from tests.faults.in_process import running, settings_for
from tests.support.content import Content, blob
from tests.support.ground import FRESH, was_hit
from tests.support.origin import Origin

BODY = blob(71, 50_000)
CONFIG = "[store]\nretry_offline_s = 1\n[fill]\npass_memory_s = 0\n"
PATIENCE_S = 10.0


class Drive:
    """Fails at first, and hangs in the second try until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hangs, self.let_go = threading.Event(), threading.Event()
        self._tried = False
        opens = Volume.open

        def open_now(volume: Volume) -> None:
            if not self._tried:
                self._tried = True
                raise VolumeOffline("the drive fails")
            self.hangs.set()
            assert self.let_go.wait(PATIENCE_S), "nobody let it go"
            opens(volume)

        monkeypatch.setattr(Volume, "open", open_now)


async def test_clients_do_not_wait_for_a_volume_that_hangs_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(monkeypatch)
    async with Origin() as origin:
        origin.add("/b", Content(BODY, headers=FRESH))
        async with running(settings_for(tmp_path, origin, CONFIG, [tmp_path / "cache"], "1GiB")) as node:
            assert await asyncio.to_thread(drive.hangs.wait, PATIENCE_S)
            passed = await node.get("/b", timeout_s=PATIENCE_S / 2)
            drive.let_go.set()
            await node.recovered()
            filled, hit = await node.get("/b"), await node.get("/b")
    assert [(answer.status, answer.body == BODY) for answer in (passed, filled, hit)] == [(200, True)] * 3
    assert (was_hit(filled), was_hit(hit)) == (False, True)
