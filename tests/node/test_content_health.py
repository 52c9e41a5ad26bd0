"""A balancer asks the content port how the node is: in any dialect, by any name that is no served host."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.client import RawClient
from tests.support.content import Content
from tests.support.flow import eventually
from tests.support.ground import FRESH, HOST, Ground, GroundOptions, running_ground

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED = [
    "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n",
    "GET {path} HTTP/1.1\r\nHost: cache.site.example\r\n\r\n",
    "HEAD {path} HTTP/1.1\r\nHost: cache.site.example.\r\n\r\n",
    "GET {path} HTTP/1.0\r\n\r\n",
    "HEAD {path} HTTP/1.0\r\n\r\n",
    "GET {path}?from=balancer HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path_factory.mktemp("health"), GroundOptions()) as ground:
        yield ground


async def first_line(ground: Ground, text: str) -> bytes:
    async with RawClient(*ground.node.content) as client:
        await client.send(text.encode())
        while b"\r\n" not in client._buffer and await client._more():
            pass
        return bytes(client._buffer).partition(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("text", ASKED)
async def test_every_dialect_gets_200_and_is_neither_counted_nor_logged(ground: Ground, text: str, path: str) -> None:
    before = len(ground.node.log)
    host, port = ground.node.content
    line = await first_line(ground, text.format(path=path, address=f"{host}:{port}"))
    assert line == b"HTTP/1.1 200 OK"
    assert [each for each in ground.node.log[before:] if path in str(each)] == []


async def test_a_served_host_has_these_paths_for_itself(ground: Ground) -> None:
    ground.origin.add("/healthz", Content(b"its own", headers=FRESH))
    assert (await ground.node.get("/healthz", host=HOST)).body == b"its own"


@pytest.mark.parametrize("target", ["/health", "/healthz/", "http://cache.site.example/healthz"])
async def test_all_else_is_refused_as_before(ground: Ground, target: str) -> None:
    line = await first_line(ground, f"GET {target} HTTP/1.1\r\nHost: cache.site.example\r\n\r\n")
    assert line == b"HTTP/1.1 403 Forbidden"


def put_file_in_place_of(directory: Path) -> None:
    """The node makes a directory anew whenever it misses it."""
    for number in itertools.count():
        directory.rename(f"{directory}.{number}")
        with suppress(IsADirectoryError):
            directory.write_bytes(b"")
            return


async def test_a_node_that_cannot_do_its_work_says_so(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        (ground.node.cache_dir / "objects").rename(tmp_path / "away")
        put_file_in_place_of(ground.node.cache_dir)

        async def refused() -> bool:
            return await first_line(ground, "GET /readyz HTTP/1.0\r\n\r\n") == b"HTTP/1.1 503 Service Unavailable"

        await eventually(refused)
        assert await first_line(ground, "GET /healthz HTTP/1.0\r\n\r\n") == b"HTTP/1.1 200 OK"
