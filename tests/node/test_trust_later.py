"""Catalogues and demands that come later hold for what is stored: on the full path, in the lane, after a restart."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.node.verified_scene import detail_of
from tests.support.client import Response
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import FRESH, Ground, GroundOptions, running_ground, was_hit
from tests.support.ground import THIRD_HOST as FILES
from tests.support.manifests import manifest_of, signed_catalogue

SIZE = (2 << 20) + 77
GOOD, EVIL = blob(61, SIZE), blob(62, SIZE)
SERVICES = f"""
[services.files]
hosts = ["{FILES}"]
"""


@pytest_asyncio.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    options = GroundOptions(config=SERVICES)
    async with running_ground(tmp_path, options) as made:
        yield made


async def reload(ground: Ground, catalogue: str = "", files: str = "") -> None:
    """Take up a catalogue and another rule for the service ``files``."""
    node = ground.node
    node.config_file.write_text(SERVICES + files + "\n" + catalogue)
    mark = len(node.log)
    node.reload()
    await node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)


async def stored(ground: Ground, body: bytes) -> str:
    """The path of a stored content, warm in the lane."""
    path = f"/files/{uuid.uuid4()}"
    ground.origin.add(path, Content(body, headers=FRESH))
    for _ in range(3):
        response = await ground.get(path, host=FILES)
        assert response.body == body
    assert was_hit(response)
    return path


async def test_what_a_new_entry_contradicts_is_no_hit_after_the_reload(ground: Ground, tmp_path: Path) -> None:
    path = await stored(ground, EVIL)
    ground.origin.add(path, Content(GOOD, headers=FRESH))
    guid = path.rpartition("/")[2]
    await reload(ground, signed_catalogue(tmp_path / "signed", {guid: manifest_of(GOOD)}))

    async def good() -> bool:
        return (await ground.get(path, host=FILES)).body == GOOD

    await eventually(good)
    line = await ground.node.wait_log(lambda line: line.get("event") == "stored_object_contradicted")
    assert (line["reason"], line["anchor"]) == ("wrong_content", "catalogue")
    removed = (await ground.node.metrics()).total("cacheserver_evictions_total", reason="contradicted")
    assert removed == 1


async def test_a_demand_that_comes_later_holds_for_the_very_next_hit(ground: Ground, tmp_path: Path) -> None:
    known, unknown = await stored(ground, GOOD), await stored(ground, EVIL)
    guid = known.rpartition("/")[2]
    await reload(ground, signed_catalogue(tmp_path / "signed", {guid: manifest_of(GOOD)}), files='require = "anchored"')

    async def both() -> tuple[Response, Response]:
        return await ground.get(known, host=FILES), await ground.get(unknown, host=FILES)

    for _round in range(2):
        anchored, plain = await both()
        assert was_hit(anchored)
        assert detail_of(anchored) == "anchored"
        assert not was_hit(plain)
        await ground.node.restart()


async def test_an_older_catalogue_is_refused_with_a_reason_in_log_and_status(ground: Ground, tmp_path: Path) -> None:
    path = await stored(ground, GOOD)
    entry = {path.rpartition("/")[2]: manifest_of(GOOD)}
    await reload(ground, signed_catalogue(tmp_path / "signed", entry, issued="2026-02-01T00:00:00Z"))
    assert [each["refused"] for each in (await ground.node.status())["catalogues"]] == [None]
    await reload(ground, signed_catalogue(tmp_path / "signed", {}, issued="2026-01-01T00:00:00Z"))
    for _round in range(2):
        line = await ground.node.wait_log(lambda line: line.get("event") == "catalogue_refused")
        assert "before the one of 2026-02-01T00:00:00Z" in line["reason"]
        (shown,) = (await ground.node.status())["catalogues"]
        assert shown["refused"] == line["reason"]
        await ground.node.restart()
