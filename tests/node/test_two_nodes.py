"""Two nodes: one takes from the other first, and does without it as soon as it gives corrupt pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cacheserver.core.request.keys import object_id
from tests.node.verified_scene import BODY, OWN, PIECE, QUICK, TAG
from tests.support.client import Response
from tests.support.content import Content, Fault
from tests.support.ground import was_hit
from tests.support.manifests import phf, phf_path
from tests.support.node import Node, running_node
from tests.support.origin import Origin

PATH = "/files/52fa8751-747d-479d-8f22-e32730cc0eb1"
SERVICE = """
[services.files]
hosts = ["files.example.test"]
lifetime = "immutable"
manifests = [{ path = "/files/????????-????-????-????-????????????", url = "{base}/pieceshash" }]
"""
FROM_ANOTHER = """
sources = ["cachehost+http://@PARENT@"]
prefer_sources = true
"""


async def get(node: Node, *headers: tuple[str, str]) -> Response:
    """Ask one node as a client."""
    return await node.get(f"{PATH}?cacheHostOrigin={OWN}", headers)


@asynccontextmanager
async def two_nodes(directory: Path, origin: Origin) -> AsyncIterator[tuple[Node, Node]]:
    """A parent and its child, both in front of one origin."""
    origin.add(PATH, Content(BODY, etag=TAG))
    origin.add(phf_path(PATH), Content(phf(BODY, PIECE)))
    config = QUICK.format(fill="") + SERVICE
    async with running_node(directory / "parent", connect_to={OWN: origin.address}, config=config) as parent:
        address = f"{parent.content[0]}:{parent.content[1]}"
        config += FROM_ANOTHER.replace("@PARENT@", address)
        async with running_node(directory / "child", connect_to={OWN: origin.address}, config=config) as child:
            yield parent, child


def spoil(node: Node, *offsets: int) -> None:
    """Flip bytes of the stored content behind the node's back."""
    name = object_id("\n".join(("files", "http", OWN, PATH, "")))
    (file,) = node.cache_dir.rglob(name)
    with file.open("r+b") as opened:
        for offset in offsets:
            opened.seek(offset)
            byte = opened.read(1)[0]
            opened.seek(offset)
            opened.write(bytes([byte ^ 0xFF]))


async def test_a_node_is_filled_by_another_one_without_the_origin(tmp_path: Path) -> None:
    async with Origin() as origin, two_nodes(tmp_path, origin) as (parent, child):
        assert (await get(parent)).body == BODY
        given = origin.body_bytes(PATH)
        assert (await get(child)).body == BODY
        assert origin.body_bytes(PATH) == given
        assert (await child.status())["banned_sources"] == []


async def test_a_node_that_gives_corrupt_pieces_is_asked_last_and_the_other_completes(tmp_path: Path) -> None:
    async with Origin() as origin, two_nodes(tmp_path, origin) as (parent, child):
        assert (await get(parent)).body == BODY
        spoil(parent, 5, PIECE + 5, 2 * PIECE + 5, 3 * PIECE + 5)
        assert (await get(parent)).body != BODY  # checked when it was stored, spoilt after: nothing told it
        response = await get(child)
        assert (response.status, response.complete, response.body == BODY) == (200, True, True)
        assert (await child.status())["banned_sources"] == [], "nothing confirms the manifest"
        line = await child.wait_log(lambda line: line.get("event") == "content_contradicted")
        assert line["source"] == f"http://{parent.content[0]}:{parent.content[1]}"
        assert line["evidence"] == "plain_piece"
        again = await get(child)
        assert (again.body == BODY, was_hit(again)) == (True, True)
        metrics = await child.metrics()
        assert metrics.total("cacheserver_verified_pieces_total", level="self_consistent", result="bad") >= 1
        assert metrics.total("cacheserver_verified_pieces_total", level="self_consistent", result="ok") == 4


async def test_a_node_that_is_down_costs_no_client_an_answer(tmp_path: Path) -> None:
    async with Origin() as origin, two_nodes(tmp_path, origin) as (parent, child):
        await parent.stop()
        assert (await get(child)).body == BODY


@pytest.mark.parametrize("status", [404, 503])
async def test_a_missing_file_does_not_take_the_other_node_from_the_rest(tmp_path: Path, status: int) -> None:
    async with Origin() as origin, two_nodes(tmp_path, origin) as (parent, child):
        assert (await get(parent)).body == BODY
        origin.add("/missing", Content(b""))
        origin.fault("/missing", always=Fault.refusing(status, ("Retry-After", "7")))
        refused = await child.get("/missing", host=OWN)
        assert refused.status == status, "its client gets what the origin said"
        given = origin.body_bytes(PATH)
        assert (await get(child)).body == BODY
        assert origin.body_bytes(PATH) == given, "the other node gave it"
