"""One content under the eye: what is held back, what is shown, what is checked again, and what is forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.node.verified_scene import (
    ANCHORED,
    BODY,
    OTHER,
    PIECE,
    UPDATES,
    Scene,
    detail_of,
    flipped,
    verifying,
)
from tests.support.client import RawClient
from tests.support.content import Fault
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, was_hit
from tests.support.manifests import b64, phf, phf_path

pytestmark = pytest.mark.asyncio(loop_scope="module")
FIRST_PIECE = ("Range", f"bytes=0-{PIECE - 1}")
SECOND_PIECE = ("Range", f"bytes={PIECE}-{2 * PIECE - 1}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A node that holds pieces back for longer than any test takes."""
    async with verifying(tmp_path_factory.mktemp("patient"), fill="hold_timeout_s = 15.0") as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A node that shows a held piece almost at once."""
    async with verifying(tmp_path_factory.mktemp("hasty"), fill="hold_timeout_s = 0.2") as scene:
        yield scene


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> None:
    """The log is looked through when the nodes stop."""


# -- held back until it is right --------------------------------------------------------------------------------


async def test_no_byte_of_a_piece_goes_out_before_its_hash_matched(patient: Scene) -> None:
    path = patient.hold()
    gate = patient.origin.gate(path, at=2 * PIECE - 1)
    async with RawClient(*patient.node.content, timeout_s=10) as client:
        response = await client.start("GET", f"{path}?cacheHostOrigin={DO_HOST}")
        assert await client.read_body(response, PIECE) == BODY[:PIECE]
        await gate.reached()
        reading = asyncio.create_task(client.finish(response))
        await patient.until_counted(1, "fills_in_flight")
        async with RawClient(*patient.node.content, timeout_s=0.3) as other:
            with pytest.raises(TimeoutError):
                await other.request("GET", f"{path}?cacheHostOrigin={DO_HOST}", [SECOND_PIECE])
        assert len(response.received) == PIECE
        gate.open()
        assert (await reading).body == BODY


async def test_a_bad_piece_is_fetched_again_and_the_client_none_the_wiser(patient: Scene) -> None:
    path, host = patient.hold(), patient.shard()
    patient.origin.fault(path, Fault(flip_at=7))
    strikes = await patient.counted("source_strikes_total")
    response = await patient.get(path, host=host)
    assert (response.status, response.complete, response.body == BODY) == (200, True, True)
    assert await patient.counted("source_strikes_total") == strikes, "nothing confirms the manifest"


async def test_a_held_piece_that_takes_too_long_is_shown_and_cut_before_its_end_when_it_is_bad(hasty: Scene) -> None:
    path = hasty.hold(flipped(PIECE - 1))
    gate = hasty.origin.gate(path, at=PIECE - 1)
    async with RawClient(*hasty.node.content) as client:
        response = await client.start("GET", f"{path}?cacheHostOrigin={hasty.shard()}")
        assert len(await client.read_body(response, PIECE // 2)) == PIECE // 2
        gate.open()
        await client.finish(response)
    assert not response.complete
    assert response.body == BODY[: len(response.body)]
    assert len(response.body) < PIECE
    hasty.put(path, BODY)
    assert (await hasty.get(path, host=hasty.shard())).body == BODY


async def test_a_held_piece_that_takes_too_long_and_is_right_arrives_whole(hasty: Scene) -> None:
    path = hasty.hold()
    gate = hasty.origin.gate(path, at=PIECE - 1)
    async with RawClient(*hasty.node.content) as client:
        response = await client.start("GET", f"{path}?cacheHostOrigin={hasty.shard()}")
        assert await client.read_body(response, PIECE // 2) == BODY[: PIECE // 2]
        gate.open()
        assert (await client.finish(response)).body == BODY


# -- manifests that come late, change, or go --------------------------------------------------------------------


async def test_a_late_manifest_checks_what_was_stored_before_it(hasty: Scene) -> None:
    path = hasty.hold(flipped(5))
    manifest = hasty.origin.gate(phf_path(path))
    bad = await hasty.counted("verified_pieces_total", result="bad")
    await hasty.get(path, FIRST_PIECE, host=hasty.shard())
    hasty.put(path, BODY)
    manifest.open()
    await hasty.until_counted(bad + 1, "verified_pieces_total", result="bad")
    assert (await hasty.get(path, host=hasty.shard())).body == BODY


async def test_who_was_given_a_piece_that_a_late_manifest_found_bad_is_cut(hasty: Scene) -> None:
    path = hasty.hold(flipped(5))
    manifest, tail = hasty.origin.gate(phf_path(path)), hasty.origin.gate(path, at=3 * PIECE)
    bad = await hasty.counted("verified_pieces_total", result="bad")
    async with RawClient(*hasty.node.content) as client:
        response = await client.start("GET", f"{path}?cacheHostOrigin={hasty.shard()}")
        await client.read_body(response, 2 * PIECE)
        await tail.reached()
        manifest.open()
        await hasty.until_counted(bad + 1, "verified_pieces_total", result="bad")
        tail.open()
        await client.finish(response)
    assert not response.complete


async def test_a_piece_that_a_late_manifest_found_bad_does_not_come_back_with_a_restart(tmp_path: Path) -> None:
    async with verifying(tmp_path, fill="hold_timeout_s = 0.2") as scene:
        path = scene.hold(flipped(5))
        manifest = scene.origin.gate(phf_path(path))
        await scene.get(path, FIRST_PIECE)
        manifest.open()
        await scene.until_counted(1, "verified_pieces_total", result="bad")
        await scene.until_idle()
        await scene.origin.go_down()
        await scene.node.restart()
        assert (await scene.get(path, FIRST_PIECE, host=scene.shard())).status in (502, 504)
        await scene.origin.come_up()
        scene.put(path, BODY)
        assert (await scene.get(path, FIRST_PIECE, host=scene.shard())).body == BODY[:PIECE]


async def test_bad_contents_beside_it_leave_the_verification_of_a_content_as_it_is(patient: Scene) -> None:
    host = patient.shard()
    path, worse = patient.hold(flipped(5)), patient.hold(OTHER)
    gate = patient.origin.gate(path)
    asking = asyncio.create_task(patient.get(path, FIRST_PIECE, host=host))
    await gate.reached()
    for _ in range(4):
        await patient.get(worse, host=host)
        await patient.get(worse)  # the plain name is a source of every shard
    assert await patient.banned() == []
    gate.open()
    assert (await asking).status == 502
    patient.put(path, BODY)
    assert (await patient.get(path, FIRST_PIECE, host=patient.shard())).body == BODY[:PIECE]


async def test_pieces_that_nobody_vouches_for_take_the_label_away(patient: Scene) -> None:
    path = patient.hold()
    assert (await patient.get(path, FIRST_PIECE, host=patient.shard())).status == 206
    await patient.until_idle()
    patient.origin.fault(phf_path(path), always=Fault(status=404))
    assert (await patient.get(path, host=patient.shard())).body == BODY
    assert detail_of(await patient.get(path, host=patient.shard())) is None


# -- the piece-hash file itself ---------------------------------------------------------------------------------


async def test_the_manifest_is_fetched_once_for_many_clients(patient: Scene) -> None:
    path = patient.hold()
    gate = patient.origin.gate(path, at=PIECE)
    clients = [asyncio.create_task(patient.get(path, host=patient.shard())) for _ in range(8)]
    await gate.reached()
    gate.open()
    assert all(response.body == BODY for response in await asyncio.gather(*clients))
    assert len(patient.origin.asked(phf_path(path))) == 1


async def test_a_client_that_asks_for_the_manifest_gets_the_origins_bytes(patient: Scene) -> None:
    odd = phf(BODY, PIECE).replace(b",", b", ") + b"\n"
    path = patient.hold(manifest=odd)
    response = await patient.get(phf_path(path), host=patient.shard())
    assert (response.status, response.body) == (200, odd)


async def test_a_manifest_that_is_not_there_is_asked_for_again_after_seconds(tmp_path: Path) -> None:
    async with verifying(tmp_path, fill="negative_s = 1.0") as scene:
        path = scene.hold()
        scene.origin.fault(phf_path(path), always=Fault(status=404))
        await scene.get(path, FIRST_PIECE)
        await scene.until_idle()
        assert (await scene.get(phf_path(path))).status == 502
        asked = len(scene.origin.asked(phf_path(path)))
        await scene.get(path, SECOND_PIECE)
        await scene.until_idle()
        assert len(scene.origin.asked(phf_path(path))) == asked
        scene.origin.heal(phf_path(path))
        while (await scene.get(phf_path(path))).status != 200:  # noqa: ASYNC110 - the memory ends by the clock
            await asyncio.sleep(0.1)
        assert (await scene.get(path)).body == BODY
        assert detail_of(await scene.get(path)) == "self_consistent"


# -- levels -----------------------------------------------------------------------------------------------------


async def test_levels_are_told_apart_in_cache_status_and_metrics(patient: Scene) -> None:
    consistent, anchored, bare = patient.hold(), patient.hold(path=ANCHORED), patient.hold(manifest=b"no manifest")
    before = {
        level: await patient.counted("verified_pieces_total", level=level, result="ok")
        for level in ("anchored", "self_consistent")
    }
    details = []
    for path in (consistent, anchored, bare):
        assert (await patient.get(path, host=patient.shard())).body == BODY
        again = await patient.get(path, host=patient.shard())
        assert was_hit(again)
        details.append(detail_of(again))
    assert details == ["self_consistent", "anchored", None]
    for level, count in before.items():
        assert await patient.counted("verified_pieces_total", level=level, result="ok") == count + 4


async def test_a_content_of_another_length_than_the_signed_one_is_not_delivered(tmp_path: Path) -> None:
    async with verifying(tmp_path) as scene:
        path = scene.hold(OTHER + b"more", path=ANCHORED, manifest=phf(OTHER + b"more", PIECE))
        assert (await scene.get(path)).status == 502
        assert (await scene.get(path, FIRST_PIECE)).status == 502
        scene.hold(path=ANCHORED)
        assert (await scene.get(path)).body == BODY


async def test_a_manifest_that_the_catalogue_contradicts_is_not_believed(tmp_path: Path) -> None:
    async with verifying(tmp_path) as scene:
        path = scene.hold(path=ANCHORED, manifest=phf(OTHER, PIECE))
        assert (await scene.get(path)).body == BODY

        async def anchored() -> bool:
            """The node's own digests are what the catalogue says; they are compared when the last byte has gone."""
            return detail_of(await scene.get(path)) == "anchored"

        await eventually(anchored)
        assert await scene.counted("manifests_total", result="contradicts") == 1


# -- digests of the whole content -------------------------------------------------------------------------------


async def test_a_file_that_is_not_what_its_name_says_is_forgotten(patient: Scene) -> None:
    name = f"/c/msdownload/update/software/secu/x_{hashlib.sha1(BODY).hexdigest()}.cab"
    patient.put(name, OTHER)
    forgotten = await patient.counted("evictions_total", reason="superseded")
    first = await patient.get(name, host=UPDATES)
    assert not first.complete
    assert OTHER[: 3 * PIECE].startswith(first.body)  # what was on its way is lost with the cut
    await patient.until_counted(forgotten + 1, "evictions_total", reason="superseded")
    patient.put(name, BODY)
    right = await patient.counted("verified_pieces_total", level="anchored", result="ok")
    assert (await patient.get(name, host=UPDATES)).body == BODY
    await patient.until_counted(right + 1, "verified_pieces_total", level="anchored", result="ok")
    again = await patient.get(name, host=UPDATES)
    assert (again.body == BODY, was_hit(again)) == (True, True)
    while detail_of(again) != "anchored":  # noted in a thread, once it is checked
        again = await patient.get(name, host=UPDATES)


@pytest.mark.parametrize("digest", ["sha-256", "sha-512", "sha"])
async def test_a_file_that_is_not_what_its_digest_field_says_is_forgotten(patient: Scene, digest: str) -> None:
    kind = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512, "sha": hashlib.sha1}[digest]
    line = ("Repr-Digest", f"{digest}=:{b64(kind(BODY).digest())}:")
    path = f"/d/{digest}.bin"
    patient.put(path, OTHER, line)
    forgotten = await patient.counted("evictions_total", reason="superseded")
    first = await patient.get(path, host=patient.shard())
    assert not first.complete
    assert OTHER[: 3 * PIECE].startswith(first.body)  # what was on its way is lost with the cut
    await patient.until_counted(forgotten + 1, "evictions_total", reason="superseded")
    patient.put(path, BODY, line)
    assert (await patient.get(path, host=patient.shard())).body == BODY
    again = await patient.get(path, host=patient.shard())
    assert (again.body == BODY, was_hit(again)) == (True, True)


async def test_a_small_file_that_is_not_what_its_name_says_is_an_error_for_its_first_client(tmp_path: Path) -> None:
    async with verifying(tmp_path) as scene:
        small = BODY[:5000]
        name = f"/c/msdownload/update/software/secu/x_{hashlib.sha1(small).hexdigest()}.cab"
        scene.put(name, OTHER[:5000])
        for asked in ((), (("Range", "bytes=0-1"),)):
            response = await scene.get(name, *asked, host=UPDATES)
            assert (response.status, response.complete) == (502, True)
        assert len(scene.origin.asked(name)) == 2
        scene.put(name, small)
        assert (await scene.get(name, host=UPDATES)).body == small


async def test_files_that_are_not_what_they_are_called_are_refused_and_blame_no_source(tmp_path: Path) -> None:
    async with verifying(tmp_path) as scene:
        name = f"/c/msdownload/update/software/secu/x_{hashlib.sha1(BODY).hexdigest()}.cab"
        scene.put(name, OTHER)
        for turn in range(4):
            assert not (await scene.get(name, host=UPDATES)).complete
            await scene.until_counted(turn + 1, "verified_pieces_total", result="bad")
        assert await scene.counted("source_strikes_total") == 0
        assert await scene.banned() == []
