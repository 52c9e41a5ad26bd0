"""The fetch command against real nodes: how an operator proves a node from a shell."""

from __future__ import annotations

from pathlib import Path

from tests.fetch.scene import HOST, PATH, PIECE, Scene
from tests.support.content import Content, blob
from tests.support.node import running_node
from tests.support.origin import Origin

SIZE = 6 * PIECE + 1


async def test_node_serves_the_fetch_and_then_again_without_the_origin(scene: Scene) -> None:
    scene.hold(SIZE)
    directory = scene.directory / "node"
    async with running_node(directory, connect_to={HOST: scene.origin.address}) as node:
        address = f"{node.content[0]}:{node.content[1]}"
        arguments = ("--cache-host", address, "--no-origin", "--hash-of-hashes", scene.hash_of_hashes)
        first = await scene.fetch(*arguments)
        assert (first.code, first.facts["mode"]) == (0, "pieces"), first.err
        assert scene.output.read_bytes() == scene.body
        before = len(scene.origin.asked(PATH))
        scene.output.unlink()
        again = await scene.fetch(*arguments)
        assert again.code == 0, again.err
        assert scene.output.read_bytes() == scene.body
        assert len(scene.origin.asked(PATH)) == before
        assert again.source(address)["pieces"] == 7


async def test_corrupt_cache_host_is_banned_and_the_node_completes(scene: Scene, cache: Origin) -> None:
    scene.hold(SIZE)
    cache.add(PATH, Content(blob(9, SIZE), etag='"v1"'))
    directory: Path = scene.directory / "node"
    async with running_node(directory, connect_to={HOST: scene.origin.address}) as node:
        address = f"{node.content[0]}:{node.content[1]}"
        outcome = await scene.fetch(
            *("--cache-host", cache.address, "--cache-host", address, "--no-origin"),
            *("--hash-of-hashes", scene.hash_of_hashes),
        )
    assert outcome.code == 0, outcome.err
    assert scene.output.read_bytes() == scene.body
    assert outcome.source(cache.address)["banned"] == "3 bad pieces"
    assert outcome.source(address)["pieces"] == 7
