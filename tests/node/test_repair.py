"""A piece that rotted on disk is fetched again as what it was: its record says what its bytes must be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node.verified_scene import detail_of
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, GroundOptions, running_ground
from tests.support.manifests import phf, phf_path
from tests.support.operator import admin, file_of, flip, run

BODY = blob(71, 4 * PIECE + 9)
WRONG = BODY[: 2 * PIECE] + b"?" + BODY[2 * PIECE + 1 :]
"""The same but for one byte of piece 2, under the same strong validator."""
DO_PATH = "/filestreamingservice/files/00000000-0000-4000-8000-0000000000bb"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        yield ground


def hold(ground: Ground, path: str, body: bytes) -> None:
    ground.origin.add(path, Content(body, etag='"v1"', headers=FRESH))


async def stored(ground: Ground, path: str, host: str) -> None:
    """Have the node hold the right bytes, all of them."""
    hold(ground, path, BODY)

    async def is_whole() -> bool:
        before = ground.origin.bytes_sent
        return (await ground.get(path, host=host)).body == BODY and ground.origin.bytes_sent == before

    await eventually(is_whole)


async def test_other_bytes_under_the_same_validator_do_not_repair_a_piece(ground: Ground) -> None:
    path = ground.new_path()
    await stored(ground, path, HOST)
    flip(file_of(ground, BODY), 2 * PIECE + 5, 3)
    assert (await run("scrub", "--now", "--admin", admin(ground))).code == 3
    hold(ground, path, WRONG)
    for _ in range(3):
        response = await ground.get(path)
        assert not response.complete
        assert BODY.startswith(response.body)
    assert not (await ground.node.status())["banned_sources"]  # nothing vouched for what was stored
    hold(ground, path, BODY)
    before = ground.origin.bytes_sent
    assert (await ground.get(path)).body == BODY
    assert ground.origin.bytes_sent - before == PIECE


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_verified_is_repaired_and_keeps_its_trust_while_the_manifest_is_away(
    ground: Ground, restarted: bool
) -> None:
    ground.origin.add(phf_path(DO_PATH), Content(phf(BODY)))
    await stored(ground, DO_PATH, DO_HOST)
    ground.origin.fault(phf_path(DO_PATH), always=Fault.refusing(404))
    if restarted:
        await ground.node.stop()
    flip(file_of(ground, BODY), 2 * PIECE + 5, 3)
    if restarted:
        await ground.node.start()
    else:
        assert (await run("scrub", "--now", "--admin", admin(ground))).code == 3
    hold(ground, DO_PATH, WRONG)
    assert not (await ground.get(DO_PATH, host=DO_HOST)).complete
    assert not (await ground.node.status())["banned_sources"]  # nothing authentic vouched for what was stored
    hold(ground, DO_PATH, BODY)

    async def is_whole() -> bool:
        response = await ground.get(DO_PATH, host=DO_HOST)
        assert BODY.startswith(response.body)
        return response.complete and detail_of(response) == "self_consistent"

    await eventually(is_whole)
