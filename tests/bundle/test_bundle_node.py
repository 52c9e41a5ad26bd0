"""From one real node to another without a network between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.scene import PIECE, Scene, filled
from tests.support.content import Content, blob
from tests.support.node import Node, running_node
from tests.support.origin import Origin

OWN = "cdn.example.test"
DO = "dl.delivery.mp.microsoft.com"
FILES = {
    (DO, "/filestreamingservice/files/52fa8751-747d-479d-8f22-e32730cc0eb1"): blob(1, 3 * PIECE + 11),
    (DO, "/filestreamingservice/files/7bc846e0-af9c-49be-a03d-bb04428c9bb5"): blob(2, 4321),
    (OWN, "/plain.bin"): blob(3, PIECE),
}
VARIANTS = {"de": blob(4, 300), "en": blob(5, 400)}


async def fill_node(directory: Path, origin: Origin) -> None:
    """A node that has fetched everything once, stopped."""
    async with running_node(directory, allow=(OWN,), connect_to={OWN: origin.address, DO: origin.address}) as node:
        for (host, path), body in FILES.items():
            response = await node.get(f"{path}?P1=1&P4=t" if host == DO else path, host=host)
            assert response.body == body
        for language, body in VARIANTS.items():
            assert (await spoken(node, language)) == body


async def spoken(node: Node, language: str) -> bytes:
    return (await node.get("/hello", [("Accept-Language", language)], host=OWN)).body


def hold(origin: Origin) -> None:
    for (_, path), body in FILES.items():
        origin.add(path, Content(body, headers=(("Cache-Control", "max-age=86400"),)))
    headers = (("Cache-Control", "max-age=86400"), ("Vary", "Accept-Language"))
    origin.add(
        "/hello", lambda record: Content(VARIANTS[record.fields.value("Accept-Language") or "en"], headers=headers)
    )


async def test_round_trip_through_a_bundle_serves_everything_without_an_origin(scene: Scene) -> None:
    async with Origin() as origin:
        hold(origin)
        await fill_node(scene.directory / "a", origin)
    ran = scene.export("all", cache=scene.directory / "a" / "cache")
    assert (ran.code, ran.lines) == (0, []), ran
    dead = "127.0.0.1:1"
    directory = scene.directory / "b"
    ran = scene.take(directory / "cache")
    assert (ran.code, ran.lines) == (0, []), ran
    assert "5 objects imported" in ran.out
    for _ in range(2):
        async with running_node(directory, allow=(OWN,), connect_to={OWN: dead, DO: dead}) as node:
            for (host, path), body in FILES.items():
                response = await node.get(f"{path}?P1=9&P4=other" if host == DO else path, host=host)
                assert (response.status, response.complete, response.body == body) == (200, True, True), path
                part = await node.get(path, [("Range", "bytes=100-200")], host=host)
                assert (part.status, part.body) == (206, body[100:201])
            for language, body in VARIANTS.items():
                assert (await spoken(node, language)) == body
            assert (await node.metrics()).total("cacheserver_verified_pieces_total", result="bad") == 0


async def test_running_node_is_not_touched(scene: Scene) -> None:
    async with running_node(scene.directory / "a", allow=(OWN,)) as node:
        for ran in (
            scene.run("export", "all", scene.bundle, "--cache-dir", node.cache_dir),
            scene.run("import", scene.bundle, "--unsigned", "--cache-dir", node.cache_dir),
        ):
            assert ran.code in (1, 2)
            assert len(ran.lines) == 1
        assert (await node.get("/x", host="unknown.example")).status == 403


@pytest.mark.parametrize("flag", ["--config", "--cache-dir"])
async def test_settings_file_names_the_volumes_too(scene: Scene, flag: str) -> None:
    filled(scene.directory / "source")
    config = scene.directory / "c.toml"
    config.write_text('[[store.volumes]]\npath = "source"\nmax_size = "1GiB"\n')
    place = config if flag == "--config" else scene.directory / "source"
    ran = scene.run("export", "all", scene.bundle, flag, place)
    assert (ran.code, "3 objects" in ran.out) == (0, True)
