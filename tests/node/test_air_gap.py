"""From a site with an origin to one without: what is carried over is served right, with its piece-hash file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.integrity.manifest import parse_manifest
from tests.bundle.scene import Scene, new_keys
from tests.support.content import Content, blob
from tests.support.ground import DO_HOST, was_hit
from tests.support.manifests import MIB, manifest_of, phf, phf_path, signed_catalogue
from tests.support.node import running_node
from tests.support.origin import Origin

GUIDS = {
    "52fa8751-747d-479d-8f22-e32730cc0eb1": blob(95, 2 * MIB + 321),
    "7bc846e0-af9c-49be-a03d-bb04428c9bb5": blob(96, 4321),
    "0f0e0d0c-747d-479d-8f22-e32730cc0eb1": blob(97, MIB),
}
PATHS = {f"/filestreamingservice/files/{guid}": body for guid, body in GUIDS.items()}
NOWHERE = "127.0.0.1:1"


async def filled(directory: Path, origin: Origin) -> None:
    """A node that has fetched every content, anchored, and was stopped."""
    config = signed_catalogue(directory, {guid: manifest_of(body) for guid, body in GUIDS.items()})
    async with running_node(directory, connect_to={DO_HOST: origin.address}, config=config) as node:
        for path, body in PATHS.items():
            assert (await node.get(f"{path}?P1=1&cacheHostOrigin={DO_HOST}")).body == body


async def test_contents_and_their_manifests_are_served_with_the_network_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path, capsys, new_keys(tmp_path))
    async with Origin() as origin:
        for path, body in PATHS.items():
            origin.add(path, Content(body))
            origin.add(phf_path(path), Content(phf(body)))
        await filled(tmp_path / "a", origin)
    assert scene.export("all", cache=tmp_path / "a" / "cache").code == 0
    assert scene.take(tmp_path / "b" / "cache").code == 0
    for _ in range(2):
        async with running_node(tmp_path / "b", connect_to={DO_HOST: NOWHERE}) as node:
            for path, body in PATHS.items():
                manifest = await node.get(f"{phf_path(path)}?cacheHostOrigin={DO_HOST}")
                assert (manifest.status, manifest.body) == (200, phf(body))
                assert parse_manifest(manifest.body, length_bytes=len(body)) == manifest_of(body)
                whole = await node.get(f"{path}?P1=2&cacheHostOrigin={DO_HOST}")
                assert (whole.status, whole.body == body, was_hit(whole)) == (200, True, True)
            assert (
                await node.get(f"{phf_path('/filestreamingservice/files/0')}?cacheHostOrigin={DO_HOST}")
            ).status == 502
            assert "cacheserver_upstream_bytes_total" not in (await node.metrics()).names()


async def test_a_content_that_is_not_complete_gets_no_manifest_of_the_nodes_own(tmp_path: Path) -> None:
    path, body = next(iter(PATHS.items()))
    async with Origin() as origin, running_node(tmp_path, connect_to={DO_HOST: origin.address}) as node:
        origin.add(path, Content(body))
        part = await node.get(f"{path}?cacheHostOrigin={DO_HOST}", [("Range", "bytes=0-9")])
        assert part.body == body[:10]
        await origin.go_down()
        assert (await node.get(f"{phf_path(path)}?cacheHostOrigin={DO_HOST}")).status in (502, 504)
