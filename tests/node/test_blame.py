"""One file that contradicts itself costs that file alone: no ban, no other file, however often it is asked for."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.node.verified_scene import BODY, OTHER, OWN, PIECE, UPDATES, Scene, verifying
from tests.support.manifests import b64, phf, phf_path

pytestmark = pytest.mark.asyncio(loop_scope="module")
SERVICE = """
[services.files]
hosts = ["files.example.test"]
manifests = [{ path = "/f/*", url = "{base}/pieceshash" }]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with verifying(tmp_path_factory.mktemp("blame"), services=SERVICE) as made:
        yield made


@pytest.fixture(autouse=True)
def log_without_faults(request: pytest.FixtureRequest) -> None:
    """The log is looked through when the node stops."""


def stale_manifest(scene: Scene) -> tuple[str, str]:
    path = scene.hold(OTHER, path=f"/f/{uuid.uuid4()}", manifest=phf(BODY, PIECE))
    assert scene.origin.asked(phf_path(path)) == []
    return path, OWN


def stale_digest_field(scene: Scene) -> tuple[str, str]:
    path = f"/g/{uuid.uuid4()}"
    scene.put(path, OTHER, ("Repr-Digest", f"sha-256=:{b64(hashlib.sha256(BODY).digest())}:"))
    return path, OWN


def name_of_another_file(scene: Scene) -> tuple[str, str]:
    path = f"/c/msdownload/update/software/secu/{uuid.uuid4().hex}_{hashlib.sha1(BODY).hexdigest()}.cab"
    scene.put(path, OTHER)
    return path, UPDATES


@pytest.mark.parametrize("made", [stale_manifest, stale_digest_field, name_of_another_file])
async def test_a_file_that_contradicts_itself_is_refused_and_blames_nobody(
    scene: Scene, made: Callable[[Scene], tuple[str, str]]
) -> None:
    for _ in range(4):
        path, host = made(scene)
        for _again in range(2):
            response = await scene.node.get(path, host=host)
            assert response.status == 502 or not response.complete
    assert await scene.banned() == []
    assert await scene.counted("source_strikes_total") == 0
    for name, good in (("/g/fine", OWN), ("/f/fine", OWN), ("/c/msdownload/fine.cab", UPDATES)):
        scene.put(name, BODY)
        response = await scene.node.get(name, host=good)
        assert (response.status, response.body == BODY) == (200, True)
