"""Several sources of one content: a bad one is struck, banned and shown; the bytes come from another, or not at all."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from tests.node.verified_scene import (
    ANCHORED_GUID,
    BODY,
    OTHER,
    OWN,
    PIECE,
    SIGNED_GUIDS,
    TAG,
    Scene,
    detail_of,
    flipped,
    verifying,
)
from tests.support.content import Content, Fault
from tests.support.ground import was_hit
from tests.support.manifests import b64, phf, phf_path

SERVICE = """
[services.files]
hosts = ["files.example.test"]
lifetime = "immutable"
manifests = [{{ path = "/files/????????-????-????-????-????????????", url = "{{base}}/pieceshash" }}]
sources = ["{source}"]
prefer_sources = {prefer}
require = "{require}"
"""
MIRROR, CACHE_HOST = "http://@MIRROR@", "cachehost+http://@MIRROR@"
FIRST_PIECE = ("Range", f"bytes=0-{PIECE - 1}")
SECOND_PIECE = ("Range", f"bytes={PIECE}-{2 * PIECE - 1}")
ANCHORED = f"/files/{ANCHORED_GUID}"


def service(source: str = MIRROR, *, prefer: bool = False, require: str = "any") -> str:
    return SERVICE.format(source=source, prefer=str(prefer).lower(), require=require)


def everywhere(scene: Scene, *, origin: bytes = BODY, mirror: bytes = BODY, signed: int | None = None) -> str:
    """A content at both sources, with the right manifest at both; ``signed``: the number of one that is confirmed."""
    guid = uuid.uuid4() if signed is None else SIGNED_GUIDS[signed]
    path = scene.hold(origin, path=f"/files/{guid}")
    scene.mirror.add(path, Content(mirror, etag=TAG))
    scene.mirror.add(phf_path(path), Content(phf(BODY, PIECE)))
    return path


@pytest.mark.parametrize("source", [MIRROR, CACHE_HOST], ids=["mirror", "cache host"])
async def test_a_preferred_source_of_bad_pieces_is_banned_and_the_origin_completes(tmp_path: Path, source: str) -> None:
    async with verifying(tmp_path, services=service(source, prefer=True)) as scene:
        for number in range(3):
            assert await scene.banned() == []
            path = everywhere(scene, mirror=OTHER, signed=number)
            response = await scene.get(path, host=OWN)
            assert (response.status, response.complete, response.body == BODY) == (200, True, True)
        assert await scene.banned() == [f"http://{scene.mirror.address}"]
        assert await scene.counted("source_strikes_total") >= 3
        assert await scene.counted("source_bans_total") == 1
        targets = {record.target for record in scene.mirror.asked(path)}
        assert targets == {path if source is MIRROR else f"{path}?cacheHostOrigin={OWN}"}
        seen, another = len(scene.mirror.requests), everywhere(scene)
        assert (await scene.get(another, host=OWN)).body == BODY
        assert len(scene.mirror.requests) == seen


async def test_a_bad_origin_is_banned_and_another_source_completes(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service()) as scene:
        for number in range(3):
            path = everywhere(scene, origin=OTHER, signed=number)
            assert (await scene.get(path, host=OWN)).body == BODY
        assert await scene.banned() == [f"http://{OWN}:80"]


async def test_one_bad_piece_is_a_strike_and_no_ban(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service(prefer=True)) as scene:
        path = everywhere(scene, mirror=flipped(2 * PIECE + 9), signed=0)
        assert (await scene.get(path, host=OWN)).body == BODY
        assert await scene.banned() == []
        assert await scene.counted("source_strikes_total") == 1


async def test_with_every_source_bad_the_client_gets_an_error_and_no_wrong_byte(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service()) as scene:
        for number in (0, 1, 2, 2):
            path = everywhere(scene, origin=OTHER, mirror=OTHER, signed=number)
            response = await scene.get(path, host=OWN)
            assert (response.status, response.complete) == (502, True)
        assert set(await scene.banned()) == {f"http://{OWN}:80", f"http://{scene.mirror.address}"}
        seen = len(scene.mirror.requests)
        good = everywhere(scene)
        assert (await scene.get(good, host=OWN)).body == BODY, "of another object, which nothing confirms"
        assert len(scene.mirror.requests) == seen


async def test_what_was_stored_before_all_sources_were_banned_is_served(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service()) as scene:
        stored = everywhere(scene)
        assert (await scene.get(stored, host=OWN)).body == BODY
        for number in range(3):
            await scene.get(everywhere(scene, origin=OTHER, mirror=OTHER, signed=number), host=OWN)
        assert len(await scene.banned()) == 2
        again = await scene.get(stored, host=OWN)
        assert (again.body == BODY, was_hit(again)) == (True, True)


async def test_a_source_that_lies_about_content_and_manifest_is_found_out_by_the_anchor(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service(CACHE_HOST, prefer=True)) as scene:
        scene.hold(path=ANCHORED)
        scene.mirror.add(ANCHORED, Content(OTHER, etag=TAG))
        scene.mirror.add(phf_path(ANCHORED), Content(phf(OTHER, PIECE)))
        assert (await scene.get(ANCHORED, host=OWN)).body == BODY
        assert detail_of(await scene.get(ANCHORED, host=OWN)) == "anchored"
        assert await scene.counted("source_strikes_total") >= 1
        assert await scene.banned() == [], "however many pieces, it is one object"


@pytest.mark.parametrize("fault", [Fault(status=404), Fault(status=500), Fault(gzip=True)], ids=["404", "500", "gzip"])
async def test_a_source_without_a_manifest_does_not_turn_verification_off(tmp_path: Path, fault: Fault) -> None:
    async with verifying(tmp_path, services=service(prefer=True)) as scene:
        path = everywhere(scene, mirror=OTHER)
        scene.mirror.fault(phf_path(path), always=fault)
        assert (await scene.get(path, host=OWN)).body == BODY
        assert detail_of(await scene.get(path, host=OWN)) == "self_consistent"


# -- content that must be anchored ------------------------------------------------------------------------------


async def test_content_that_is_not_anchored_passes_and_is_not_stored(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service(require="anchored")) as scene:
        path = everywhere(scene)
        for _ in range(2):
            response = await scene.get(path, host=OWN)
            assert (response.body == BODY, was_hit(response)) == (True, False)
            assert "stored=?0" in (response.fields.value("Cache-Status") or "")
        assert scene.origin.body_bytes(path) >= 2 * len(BODY)
        assert (await scene.node.metrics()).total("cacheserver_store_objects") == 0


async def test_content_that_is_anchored_is_stored_where_that_is_demanded(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service(require="anchored")) as scene:
        scene.hold(path=ANCHORED)
        assert (await scene.get(ANCHORED, host=OWN)).body == BODY
        again = await scene.get(ANCHORED, host=OWN)
        assert (again.body == BODY, was_hit(again), detail_of(again)) == (True, True, "anchored")


async def test_a_manifest_that_goes_away_leaves_no_unverified_piece_where_anchors_are_demanded(tmp_path: Path) -> None:
    fill = "negative_s = 0\npass_memory_s = 0"
    async with verifying(tmp_path, fill=fill, services=service(require="anchored")) as scene:
        scene.hold(path=ANCHORED)
        assert (await scene.get(ANCHORED, FIRST_PIECE, host=OWN)).body == BODY[:PIECE]
        await scene.until_idle()
        scene.origin.fault(phf_path(ANCHORED), always=Fault(status=404))
        scene.put(ANCHORED, OTHER)
        await scene.get(ANCHORED, SECOND_PIECE, host=OWN)
        await scene.until_idle()
        scene.origin.heal(phf_path(ANCHORED))
        scene.put(ANCHORED, BODY)
        assert (await scene.get(ANCHORED, host=OWN)).body == BODY
        again = await scene.get(ANCHORED, host=OWN)
        assert (again.body == BODY, was_hit(again), detail_of(again)) == (True, True, "anchored")


async def test_a_preferred_source_of_one_wrong_whole_comes_last_for_that_content_alone(tmp_path: Path) -> None:
    async with verifying(tmp_path, services=service(prefer=True)) as scene:
        stated = ("Repr-Digest", f"sha-256=:{b64(hashlib.sha256(BODY).digest())}:")
        path, other = "/plain/wrong", "/plain/right"
        scene.origin.add(path, Content(BODY, etag=TAG))
        scene.mirror.add(path, Content(OTHER, etag=TAG, headers=(stated,)))
        for place in (scene.origin, scene.mirror):
            place.add(other, Content(BODY, etag=TAG))
        first = await scene.get(path, host=OWN)
        assert first.status == 502 or not first.complete
        asked = len(scene.mirror.asked(path))
        assert (await scene.get(path, host=OWN)).body == BODY
        assert len(scene.mirror.asked(path)) == asked
        assert (await scene.get(other, host=OWN)).body == BODY
        assert (bool(scene.mirror.asked(other)), scene.origin.asked(other)) == (True, [])
        assert await scene.banned() == []
