"""What passes is verified: by pieces where there is a manifest, as a whole where its digest is known."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.node.verified_scene import BODY, OTHER, OWN, PIECE, SIZE, TAG, UPDATES, Scene, flipped, verifying
from tests.support.client import RawClient, Response
from tests.support.content import Content, Fault
from tests.support.ground import DO_HOST
from tests.support.manifests import phf, phf_path

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = itertools.count()
NO_STORE = ("Cache-Control", "no-store")
SERVICES = """
[services.files]
hosts = ["*.files.example.test"]
lifetime = "{lifetime}"
manifests = [{{ path = "/files/????????-????-????-????-????????????", url = "{{base}}/pieceshash" }}]
sources = ["http://@MIRROR@"]
require = "{require}"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A node whose second source is the mirror."""
    async with own_scene(tmp_path_factory.mktemp("passes")) as made:
        yield made


def own_scene(
    directory: Path, lifetime: str = "immutable", require: str = "any", fill: str = ""
) -> AbstractAsyncContextManager[Scene]:
    """A scene with an own service of many hosts, of which each test takes new ones: demotions are remembered."""
    hosts = {f"{number}.{OWN}": "" for number in range(40)}
    config = SERVICES.format(lifetime=lifetime, require=require)
    return verifying(directory, fill=fill, services=config, hosts=hosts)


def new_host() -> str:
    return f"{next(NUMBERS) % 40}.{OWN}"


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> None:
    """The log is looked through when the nodes stop."""


def passing(scene: Scene, body: bytes = BODY, *, mirror: bytes | None = None, etag: str | None = TAG) -> str:
    """A content that must not be stored, with the manifest of ``BODY``; at the mirror too where told so."""
    path = scene.hold(path=f"/files/{uuid.uuid4()}")
    scene.origin.add(path, Content(body, etag=etag, headers=(NO_STORE,)))
    if mirror is not None:
        scene.mirror.add(path, Content(mirror, etag=etag, headers=(NO_STORE,)))
    return path


def shipped(scene: Scene, body: bytes = BODY) -> str:
    """The same of a shipped service."""
    path = scene.hold()
    scene.put(path, body, NO_STORE)
    return path


def span(start: int, stop: int) -> tuple[str, str]:
    return ("Range", f"bytes={start}-{stop - 1}")


def is_right(response: Response, start: int = 0, stop: int = SIZE) -> bool:
    ranged = response.status == 206 and response.fields.value("Content-Range") == f"bytes {start}-{stop - 1}/{SIZE}"
    return (ranged or (start, stop) == (0, SIZE)) and response.complete and response.body == BODY[start:stop]


@pytest.mark.parametrize(
    ("start", "stop", "asked"),
    [
        (0, 2, (0, PIECE)),
        (PIECE - 1, PIECE + 1, (0, 2 * PIECE)),
        (PIECE, 2 * PIECE, (PIECE, 2 * PIECE)),
        (3 * PIECE + 5, SIZE, (3 * PIECE, 4 * PIECE)),
        (7, SIZE, (0, 4 * PIECE)),
    ],
)
async def test_a_range_goes_up_by_whole_pieces_and_comes_down_as_it_was_asked_for(
    scene: Scene, start: int, stop: int, asked: tuple[int, int]
) -> None:
    path = shipped(scene)
    await scene.get(path, span(0, 1), host=scene.shard())  # the first one is asked for to be stored
    assert is_right(await scene.get(path, span(start, stop), host=scene.shard()), start, stop)
    assert scene.origin.asked(path)[-1].range == f"bytes={asked[0]}-{asked[1] - 1}"


async def test_an_open_or_suffix_range_is_cut_out_of_what_was_verified(scene: Scene) -> None:
    path = shipped(scene)
    response = await scene.get(path, ("Range", f"bytes={2 * PIECE + 3}-"), host=scene.shard())
    assert is_right(response, 2 * PIECE + 3, SIZE)
    assert is_right(await scene.get(path, ("Range", "bytes=-5"), host=scene.shard()), SIZE - 5, SIZE)


async def test_a_range_behind_the_end_is_not_satisfiable_though_its_piece_is_there(scene: Scene) -> None:
    path = shipped(scene)
    response = await scene.get(path, span(SIZE + 10, SIZE + 20), host=scene.shard())
    assert (response.status, response.fields.value("Content-Range")) == (416, f"bytes */{SIZE}")
    assert response.complete


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(ignore_range=True, framing="close")])
async def test_a_source_that_ignores_ranges_is_verified_all_the_same(scene: Scene, fault: Fault) -> None:
    path = shipped(scene)
    scene.origin.fault(path, always=fault)
    assert is_right(await scene.get(path, span(PIECE + 9, 2 * PIECE), host=scene.shard()), PIECE + 9, 2 * PIECE)
    scene.put(path, flipped(PIECE), NO_STORE)
    response = await scene.get(path, span(PIECE + 9, 2 * PIECE), host=scene.shard())
    assert (response.status, len(response.body) < 200) == (502, True)


async def test_a_client_gets_no_byte_of_a_bad_piece_however_small_its_range(scene: Scene) -> None:
    path, struck = shipped(scene, flipped(PIECE + 5)), await scene.counted("verified_pieces_total", result="bad")
    for _ in range(2):
        response = await scene.get(path, span(2 * PIECE - 9, 2 * PIECE - 3), host=scene.shard())
        assert response.status == 502
        now = await scene.counted("verified_pieces_total", result="bad")
        assert now > struck
        struck = now
    response = await scene.get(path, host=scene.shard())
    assert (response.complete, response.body) == (False, BODY[:PIECE])


async def test_a_bad_piece_of_a_pass_comes_from_another_source(scene: Scene) -> None:
    path, host = passing(scene, flipped(PIECE + 5, 3 * PIECE), mirror=BODY), new_host()
    bad = await scene.counted("verified_pieces_total", result="bad")
    assert is_right(await scene.get(path, host=host))
    assert await scene.counted("verified_pieces_total", result="bad") == bad + 1
    assert [record.range for record in scene.mirror.asked(path)] == [f"bytes={PIECE}-{SIZE - 1}"]


async def test_without_a_second_right_source_the_client_is_cut(scene: Scene) -> None:
    path, host = passing(scene, flipped(PIECE + 5), mirror=flipped(PIECE + 6)), new_host()
    response = await scene.get(path, host=host)
    assert (response.complete, response.body) == (False, BODY[:PIECE])


async def test_parts_of_two_answers_without_a_validator_are_not_put_together(tmp_path: Path) -> None:
    async with own_scene(tmp_path, "rfc") as scene:
        path, host = passing(scene, flipped(PIECE + 5), mirror=BODY, etag=None), new_host()
        response = await scene.get(path, host=host)
        assert (response.complete, response.body) == (False, BODY[:PIECE])
        assert scene.mirror.asked(path) == []


async def test_content_that_should_be_anchored_and_is_not_passes_verified(tmp_path: Path) -> None:
    async with own_scene(tmp_path, require="anchored") as scene:
        path, host = scene.hold(OTHER, path=f"/files/{uuid.uuid4()}"), new_host()
        for asked in ((), (span(5, 9),)):
            response = await scene.get(path, *asked, host=host)
            assert response.status == 502
        scene.put(path, BODY)
        assert is_right(await scene.get(path, host=host))


async def test_the_manifest_is_fetched_once_for_many_ranges(scene: Scene) -> None:
    path, host = passing(scene), new_host()
    for start in range(0, SIZE, PIECE):
        stop = min(start + PIECE, SIZE)
        assert is_right(await scene.get(path, span(start, stop), host=host), start, stop)
    assert len(scene.origin.asked(phf_path(path))) == 1


async def test_a_kept_manifest_that_does_not_fit_any_more_is_fetched_anew(scene: Scene) -> None:
    path, host = passing(scene), new_host()
    assert is_right(await scene.get(path, span(0, PIECE), host=host), 0, PIECE)
    scene.origin.add(path, Content(OTHER, etag=TAG, headers=(NO_STORE,)))
    scene.origin.add(phf_path(path), Content(phf(OTHER, PIECE)))
    assert (await scene.get(path, span(0, PIECE), host=host)).status == 502
    assert (await scene.get(path, span(0, PIECE), host=host)).body == OTHER[:PIECE]
    assert await scene.counted("source_strikes_total") == 0, "nothing confirms the manifest"


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_body_without_a_length_is_verified_as_it_comes(scene: Scene, framing: str) -> None:
    path, host = passing(scene), new_host()
    scene.origin.fault(path, always=Fault(framing="close" if framing == "close" else "chunked"))
    right = await scene.node.get(path, host=host)
    assert (right.status, right.complete, right.body == BODY) == (200, True, True)
    for wrong, reached in ((flipped(PIECE), PIECE), (BODY + b"more", SIZE), (BODY[:-1], 3 * PIECE)):
        scene.origin.add(path, Content(wrong, etag=TAG, headers=(NO_STORE,)))
        response = await scene.node.get(path, host=host)
        assert (response.complete, response.body) == (False, BODY[:reached])


async def test_a_slow_piece_is_shown_before_the_client_gives_up_and_cut_when_it_is_bad(tmp_path: Path) -> None:
    async with own_scene(tmp_path, fill="hold_timeout_s = 0.2") as scene:
        for body, complete in ((BODY, True), (flipped(PIECE - 1), False)):
            path = shipped(scene, body)
            await scene.get(path, span(2 * PIECE, 3 * PIECE))  # from now on it passes
            scene.origin.fault(path, always=Fault(rate_bps=PIECE / 1.0))
            async with RawClient(*scene.node.content) as client:
                response = await client.start("GET", f"{path}?cacheHostOrigin={DO_HOST}", [span(0, PIECE)])
                early = await client.read_body(response, 1000)
                assert early == BODY[:1000]
                await client.finish(response)
            assert response.complete == complete
            assert BODY.startswith(response.body)


# -- the whole --------------------------------------------------------------------------------------------------


def named(scene: Scene, body: bytes, sent: bytes) -> str:
    """A file called by the SHA-1 of ``body``, in whose place something that must not be stored is sent."""
    path = f"/c/msdownload/update/software/secu/{uuid.uuid4().hex}_{hashlib.sha1(body).hexdigest()}.cab"
    scene.put(path, sent, NO_STORE)
    return path


async def test_the_last_piece_of_a_pass_waits_for_the_digest_of_the_whole(scene: Scene) -> None:
    right = await scene.get(named(scene, BODY, BODY), host=UPDATES)
    assert (right.status, right.complete, right.body == BODY) == (200, True, True)
    strikes = await scene.counted("source_strikes_total")
    wrong = await scene.get(named(scene, BODY, flipped(0)), host=UPDATES)
    assert (wrong.status, wrong.complete, wrong.body) == (200, False, flipped(0)[: 3 * PIECE])
    assert await scene.counted("source_strikes_total") == strikes, "a digest in a URL is the client's word"


async def test_a_small_pass_that_is_not_what_it_is_called_is_an_error(scene: Scene) -> None:
    small = BODY[:5000]
    right = await scene.get(named(scene, small, small), host=UPDATES)
    assert (right.status, right.body) == (200, small)
    assert (await scene.get(named(scene, small, flipped(9)[:5000]), host=UPDATES)).status == 502
