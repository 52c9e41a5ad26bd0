"""Pins over a real store and a scripted source: room, loss, restart, and what an operator is told."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ConnectFailed, PinRefused, RequestError, StoreError
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target
from cacheserver.maintenance import pinning as pinning_module
from cacheserver.maintenance.pinning import Pinning
from cacheserver.maintenance.pins_file import SavedPin, SavedPins, load_pins, save_pins
from cacheserver.store.stored_object import StoredObject
from tests.support.content import blob
from tests.support.filling import Rig, filling
from tests.support.flow import eventually
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put, representation, settled, volume_at

BODY = blob(3, 6 * PIECE)
CAPACITY = 40 * PIECE
OWN = Service(name="own", hosts=("a.test",), own=True)
SIGNED = Service(name="own", hosts=("a.test",), own=True, query="ignore", lifetime="immutable")


def id_of(name: str) -> str:
    """Object id of a URL of the own host."""
    target = Services(OWN).target(f"http://a.test/{name}")
    assert target is not None
    return target.object_id


class Services:
    """The allow-list, which a test may replace as a reload does."""

    def __init__(self, *services: Service) -> None:
        self.list = AllowList(services)

    def target(self, url: str) -> Target | None:
        """As ``Admitted.target``."""
        try:
            return parse_target(url, (url.split("/")[2],), tls=False, allowlist=self.list)
        except (RequestError, IndexError):
            return None


class Scene:
    """A node's pins and what lies around them."""

    def __init__(self, rig: Rig, services: Services, percent: int) -> None:
        self.rig = rig
        self.services = services
        self.pinning = Pinning(
            store=rig.store, coordinator=rig.coordinator, admit=services.target, percent=percent, retry_s=0.01
        )

    async def pin(self, name: str = "a") -> dict[str, Any]:
        """Pin a URL of the own host."""
        url = f"http://a.test/{name}"
        target = self.services.target(url)
        assert target is not None
        return await self.pinning.pin(url, target)

    async def object(self, name: str = "a") -> StoredObject:
        """What is stored for it."""
        obj = await self.rig.store.find(id_of(name))
        assert isinstance(obj, StoredObject)
        return obj

    async def complete(self, count: int = 1) -> None:
        """Wait until that many pins are complete."""

        async def is_so() -> bool:
            return self.pinning.summary()["complete"] == count

        await eventually(is_so)

    async def waits(self) -> dict[str, Any]:
        """The facts of the first pin that waits with a reason."""

        async def is_so() -> bool:
            return any(pin["state"] == "waiting" and pin["reason"] for pin in self.pinning.pins())

        await eventually(is_so)
        return next(pin for pin in self.pinning.pins() if pin["state"] == "waiting")


ID = id_of("a")


@asynccontextmanager
async def pinning(
    directory: Path,
    upstream: ScriptedUpstream | None = None,
    *,
    percent: int = 50,
    service: Service = OWN,
    capacity_bytes: int = CAPACITY,
) -> AsyncIterator[Scene]:
    """Pins as an earlier run has left them, looked after."""
    async with filling(directory, upstream or ScriptedUpstream(BODY), capacity_bytes=capacity_bytes) as rig:
        scene = Scene(rig, Services(service), percent)
        for volume in rig.store.volumes:
            scene.pinning.load(volume)
        task = asyncio.create_task(scene.pinning.run())
        try:
            yield scene
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await rig.assert_clean()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is looked at without waiting for more of them."""
    monkeypatch.setattr(pinning_module, "_SETTLE_S", 0.0)


async def test_pinned_content_is_kept_and_others_go(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY)
    async with pinning(tmp_path, upstream) as scene:
        assert (await scene.pin())["state"] == "queued"
        await scene.complete()
        asked = len(upstream.requests)
        for number in range(60):
            await put(scene.rig.store, representation(f"n{number}"))
        assert (await scene.object()).pieces.complete
        assert len(upstream.requests) == asked, "it was never away"


async def test_many_pins_fill_their_share_and_no_more(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        names = [f"p{number}" for number in range(4)]
        accepted = []
        for name in names:
            try:
                await scene.pin(name)
                accepted.append(name)
            except PinRefused as exc:
                assert "store.pinned_percent = 50" in str(exc)  # noqa: PT017 - how many are refused is the question
        (volume,) = scene.rig.store.volumes
        count, taken = scene.pinning.space.on_volume(volume)
        assert (count, len(scene.pinning.pins())) == (len(accepted), len(accepted))
        assert 0 < len(accepted) < 4
        assert taken <= CAPACITY // 2 < taken + taken // count
        await scene.complete(count)
        assert await scene.pinning.unpin(id_of("p0"))
        assert (await scene.pin("p3"))["volume"] == volume.path


async def test_a_smaller_share_after_a_restart_keeps_the_oldest_pins(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        for name in ("old", "new"):
            await scene.pin(name)
        await scene.complete(2)
    async with pinning(tmp_path, percent=30) as scene:
        waiting = await scene.waits()
        assert waiting["object_id"] == id_of("new")
        assert "pinned_percent = 30" in waiting["reason"]
        await scene.complete(1)
        assert await scene.pinning.unpin(id_of("old"))
        await scene.complete(1)


async def test_a_mute_origin_is_asked_again_with_growing_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="cacheserver")
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(refuse=ConnectFailed("no connection"))] * 8)
    async with pinning(tmp_path, upstream) as scene:
        assert (await scene.pin())["state"] == "waiting"
        await scene.complete()
    waits = [record.__dict__["facts"]["retry_s"] for record in caplog.records if record.message == "pin_failed"]
    assert waits == [0.01 * 2**number for number in range(len(waits))]
    assert len(waits) > 1


async def lose_piece(scene: Scene) -> None:
    scene.rig.store.drop_piece(await scene.object(), 2)


async def lose_object(scene: Scene) -> None:
    await scene.rig.store.forget(ID, reason="purged")


async def lose_closed_file(scene: Scene) -> None:
    """The file is spoilt while it is closed; whoever opens it next finds that out."""
    obj = await scene.object()
    del scene.rig.store._objects._open[obj.object_id]
    obj.file.close()
    Path(obj.file.path).write_bytes(b"spoilt")
    assert await scene.rig.store.find(obj.object_id) is None


async def new_generation(scene: Scene) -> None:
    await scene.rig.store.create(replace(representation("a", len(BODY)), object_id=ID))


@pytest.mark.parametrize("lose", [lose_piece, lose_object, lose_closed_file, new_generation])
async def test_what_is_lost_is_fetched_again(tmp_path: Path, lose: Callable[[Scene], Awaitable[None]]) -> None:
    async with pinning(tmp_path) as scene:
        await scene.pin()
        await scene.complete()
        await lose(scene)

        async def is_whole() -> bool:
            found = await scene.rig.store.find(ID)
            return isinstance(found, StoredObject) and found.pieces.complete

        await eventually(is_whole)
        await scene.complete()
        (facts,) = scene.pinning.pins()
        assert (facts["percent"], facts["stored_bytes"]) == (100, len(BODY))


async def test_closing_a_file_is_no_loss(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        await scene.pin()
        await scene.complete()
        scene.rig.store.notifications.withdrawn(await scene.object())
        assert scene.pinning.summary()["complete"] == 1


async def test_pins_come_back_with_their_objects_and_ask_nobody(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        await scene.pin()
        await scene.complete()
    upstream = ScriptedUpstream(BODY)
    async with pinning(tmp_path, upstream) as scene:
        assert scene.rig.store.volumes[0].policy.is_pinned(bytes.fromhex(ID))
        await scene.complete()
        assert not upstream.requests
        assert await scene.pinning.unpin(ID)
        assert not scene.rig.store.volumes[0].policy.is_pinned(bytes.fromhex(ID))
    async with pinning(tmp_path) as scene:
        assert scene.pinning.pins() == []


async def test_an_unreadable_file_is_told_and_the_node_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "pins").write_bytes(b"{")
    async with pinning(tmp_path) as scene:
        assert scene.pinning.pins() == []
        assert "pins_unreadable" in caplog.text
        await scene.pin()
        await scene.complete()


async def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        await scene.pin("kept")
        await scene.complete()
        os.mkdir(tmp_path / "pins.new")
        with pytest.raises(StoreError, match="written down"):
            await scene.pin("other")
        with pytest.raises(StoreError, match="written down"):
            await scene.pinning.unpin(id_of("kept"))
        assert [pin["url"] for pin in scene.pinning.pins()] == ["http://a.test/kept"]
        assert scene.rig.store.volumes[0].policy.pinned() == (bytes.fromhex(id_of("kept")),)
        os.rmdir(tmp_path / "pins.new")
        await scene.complete()


async def test_a_pin_is_refused_for_what_is_never_stored_or_varies(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY, fields=(("Cache-Control", "max-age=60"), ("Vary", "Accept")))
    async with pinning(tmp_path, upstream) as scene:
        for _ in range(2):
            with pytest.raises(PinRefused, match="Vary: accept"):
                await scene.pin()
        assert scene.pinning.pins() == []
    passing = Service(name="own", hosts=("a.test",), own=True, cacheable=False)
    async with pinning(tmp_path, service=passing) as scene:
        with pytest.raises(PinRefused, match="nothing of this service"):
            await scene.pin()


async def test_two_pins_of_one_url_are_one_and_the_newest_token_counts(tmp_path: Path) -> None:
    async with pinning(tmp_path, service=SIGNED) as scene:
        answers = await asyncio.gather(scene.pin("a?token=1"), scene.pin("a?token=2"))
        assert answers[0]["object_id"] == answers[1]["object_id"]
        await scene.complete()
        await scene.pin("a?token=3")
        (facts,) = scene.pinning.pins()
        assert facts["url"] == "http://a.test/a"
        (saved,) = load_pins(str(tmp_path)).pins
        assert saved.url == "http://a.test/a?token=3"


async def test_a_reload_that_changes_the_key_moves_the_pin_and_one_that_drops_the_host_keeps_it(
    tmp_path: Path,
) -> None:
    async with pinning(tmp_path) as scene:
        before = (await scene.pin("a?x=1"))["object_id"]
        await scene.complete()
        scene.services.list = AllowList((SIGNED,))
        scene.pinning.readmit()
        await scene.complete()
        (facts,) = scene.pinning.pins()
        assert facts["object_id"] == ID != before
        assert scene.rig.store.volumes[0].policy.pinned() == (bytes.fromhex(facts["object_id"]),)
        scene.services.list = AllowList(())
        scene.pinning.readmit()
        await lose_object(scene)
        assert "not allowed" in (await scene.waits())["reason"]
        scene.services.list = AllowList((SIGNED,))
        await scene.complete()


async def test_a_node_that_goes_down_takes_no_pin(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        await settled()
    with pytest.raises(StoreError, match="going down"):
        await scene.pin()


async def test_the_last_pin_that_is_allowed_is_taken_and_no_further_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning_module, "MOST_PINS", 2)
    async with pinning(tmp_path) as scene:
        for name in ("a", "b"):
            await scene.pin(name)
        with pytest.raises(PinRefused, match="2 contents are pinned already"):
            await scene.pin("c")
        assert scene.pinning.summary()["objects"] == 2
        await scene.pin("a")
        await scene.complete(2)


async def test_pins_are_not_looked_at_before_every_object_is_known(tmp_path: Path) -> None:
    async with pinning(tmp_path) as scene:
        await scene.pin()
        await scene.complete()
    async with filling(tmp_path, ScriptedUpstream(BODY), capacity_bytes=CAPACITY) as rig:
        (volume,) = rig.store.volumes
        volume.loaded.clear()
        scene = Scene(rig, Services(OWN), 50)
        scene.pinning.load(volume)
        running = asyncio.create_task(scene.pinning.run())
        await settled()
        assert scene.pinning.pins()[0]["state"] == "queued"
        volume.loaded.set()
        await scene.complete()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_pins_of_a_volume_that_comes_late_join_those_that_were_made_without_it(tmp_path: Path) -> None:
    late = volume_at(tmp_path / "late")
    (tmp_path / "late").mkdir()
    known = [SavedPin(f"http://a.test/{name}", id_of(name), changed=number) for number, name in enumerate("bcd", 1)]
    save_pins((late.path,), SavedPins(3, tuple(known)))
    async with pinning(tmp_path / "here") as scene:
        for name in ("a", "b"):
            await scene.pin(name)
        await scene.pinning.unpin(id_of("b"))
        scene.pinning.load(late)
        assert {pin["url"][-1] for pin in scene.pinning.pins()} == {"a", "c", "d"}

        async def is_written() -> bool:
            saved = load_pins(str(tmp_path / "here"))
            return len(saved.pins) == 3 and saved.number > 3

        await eventually(is_written)
        scene.pinning.load(late)
        assert {pin["url"][-1] for pin in scene.pinning.pins()} == {"a", "c", "d"}
