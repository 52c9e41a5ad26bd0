"""A piece-hash file that the origin does not give comes from the node, byte for byte, where it holds the content."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import Response
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, HOST, PIECE, Ground, GroundOptions, running_ground, was_hit
from tests.support.manifests import manifest_of, phf, phf_path, signed_catalogue

SIZE = 3 * PIECE + 4321
_numbers = itertools.count(1)


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        yield ground


def new_content(ground: Ground, size: int = SIZE) -> tuple[str, bytes]:
    """A content of the shipped service at a new path."""
    number = next(_numbers)
    path, body = f"/filestreamingservice/files/00000000-0000-4000-8000-{number:012d}", blob(700 + number, size)
    ground.origin.add(path, Content(body))
    return path, body


async def fetched(ground: Ground, size: int = SIZE) -> tuple[str, bytes]:
    """A content that the node holds completely."""
    path, body = new_content(ground, size)
    assert (await ground.get_as_client(f"{path}?P1=1&P4=x", host=DO_HOST)).body == body

    async def is_complete() -> bool:
        return was_hit(await ground.get_as_client(path, host=DO_HOST))

    await eventually(is_complete)
    return path, body


def trust_of(response: Response) -> str | None:
    """What Cache-Status says of a rebuilt file; None where it is not one."""
    status = response.fields.value("Cache-Status") or ""
    return status.partition("detail=rebuilt:")[2] or None


async def test_it_is_rebuilt_when_the_origin_cannot_be_reached(ground: Ground) -> None:
    path, body = await fetched(ground)
    await ground.origin.go_down()
    for query in ("", "?P1=9&P4=other"):
        response = await ground.get_as_client(f"{phf_path(path)}{query}", host=DO_HOST)
        assert (response.status, response.body) == (200, phf(body))
        assert response.fields.value("Content-Type") == "application/octet-stream"
        assert response.spelled("Content-Length")
        assert trust_of(response) == "simple"
        assert not was_hit(response)
    await ground.origin.come_up()


@pytest.mark.parametrize("form", ["cache-host", "host"])
@pytest.mark.parametrize("status", [500, 503])
async def test_it_is_rebuilt_when_the_origin_fails(ground: Ground, form: str, status: int) -> None:
    path, body = await fetched(ground)
    ground.origin.add(phf_path(path), Content(b"", status=status))
    get = ground.get if form == "host" else ground.get_as_client
    response = await get(phf_path(path), host=DO_HOST)
    assert (response.status, response.body) == (200, phf(body))


async def test_ranges_and_head_are_answered_as_of_any_file(ground: Ground) -> None:
    path, body = await fetched(ground)
    whole = phf(body)
    await ground.origin.go_down()
    part = await ground.get_as_client(phf_path(path), ("Range", "bytes=10-19"), host=DO_HOST)
    assert (part.status, part.body) == (206, whole[10:20])
    assert part.fields.value("Content-Range") == f"bytes 10-19/{len(whole)}"
    head = await ground.get(phf_path(path), host=DO_HOST, method="HEAD")
    assert (head.status, head.fields.value("Content-Length")) == (200, str(len(whole)))
    tag = head.fields.value("ETag")
    assert tag is not None
    assert (await ground.get(phf_path(path), ("If-None-Match", tag), host=DO_HOST)).status == 304
    await ground.origin.come_up()


async def test_the_origins_own_file_comes_first_and_is_never_replaced(ground: Ground) -> None:
    path, body = await fetched(ground)
    ground.origin.add(phf_path(path), Content(phf(body) + b"\n"))
    response = await ground.get_as_client(phf_path(path), host=DO_HOST)
    assert (response.status, response.body) == (200, phf(body) + b"\n")
    assert trust_of(response) is None


async def test_an_origin_that_says_there_is_none_is_believed(ground: Ground) -> None:
    path, _ = await fetched(ground)
    assert (await ground.get_as_client(phf_path(path), host=DO_HOST)).status == 502
    assert (await ground.get(phf_path(path), host=DO_HOST)).status == 404


async def test_nothing_is_rebuilt_of_incomplete_content(ground: Ground) -> None:
    path, body = new_content(ground, 40 * PIECE)
    gate = ground.origin.gate(path, at=PIECE)
    part = await ground.get_as_client(path, ("Range", "bytes=0-9"), host=DO_HOST)
    assert part.body == body[:10]
    await ground.origin.go_down()
    response = await ground.get_as_client(phf_path(path), host=DO_HOST)
    assert (response.status, trust_of(response)) == (502, None)
    gate.open()
    await ground.origin.come_up()


async def test_other_paths_and_hosts_are_not_touched(ground: Ground) -> None:
    path, _ = await fetched(ground)
    own = ground.add(blob(1, 5000))
    assert (await ground.get(own)).status == 200
    await ground.origin.go_down()
    for asked, host in (
        (f"{path}x/pieceshash", DO_HOST),
        (f"{path}/pieceshash/x", DO_HOST),
        (phf_path(own), HOST),
        (phf_path(path), HOST),
    ):
        response = await ground.get(asked, host=host)
        assert (response.status, trust_of(response)) == (502, None), asked
    await ground.origin.come_up()


async def test_every_piece_is_verified_before(ground: Ground) -> None:
    path, body = await fetched(ground)
    other, other_body = await fetched(ground)
    await ground.node.kill()
    (file,) = [
        file
        for file in (ground.node.cache_dir / "objects").rglob("*")
        if file.is_file() and body[:99] in file.read_bytes()[:99]
    ]
    with file.open("r+b") as stream:
        stream.seek(2 * PIECE + 5)
        stream.write(bytes([body[2 * PIECE + 5] ^ 1]))
    await ground.node.start()
    await ground.origin.go_down()
    spoilt = await ground.get_as_client(phf_path(path), host=DO_HOST)
    assert (spoilt.status, trust_of(spoilt)) == (502, None)
    intact = await ground.get_as_client(phf_path(other), host=DO_HOST)
    assert (intact.status, intact.body) == (200, phf(other_body))
    await ground.origin.come_up()
    assert (await ground.get_as_client(path, host=DO_HOST)).body == body


@pytest.mark.parametrize("anchored", [False, True], ids=["self-consistent", "anchored"])
async def test_the_level_of_trust_is_told(tmp_path: Path, anchored: bool) -> None:
    guid, body = "00000000-0000-4000-8000-00000000abcd", blob(7, SIZE)
    config = signed_catalogue(tmp_path / "trust", {guid: manifest_of(body)}) if anchored else ""
    async with running_ground(tmp_path, GroundOptions(config=config)) as ground:
        path = f"/filestreamingservice/files/{guid}"
        ground.origin.add(path, Content(body))
        ground.origin.add(phf_path(path), Content(phf(body)))
        expected = "anchored" if anchored else "self_consistent"

        async def is_trusted() -> bool:
            response = await ground.get_as_client(path, host=DO_HOST)
            return was_hit(response) and f"detail={expected}" in (response.fields.value("Cache-Status") or "")

        await eventually(is_trusted)
        ground.origin.fault(phf_path(path), always=Fault.refusing(503))
        response = await ground.get_as_client(phf_path(path), host=DO_HOST)
        assert (response.status, response.body, trust_of(response)) == (200, phf(body), expected)
        await ground.node.wait_answered(phf_path(path))
