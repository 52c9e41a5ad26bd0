"""What a cache holds after the process has gone: cleanly, by SIGKILL, and with a spoiled disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, GroundOptions, running_ground, was_hit

SIZE = 6 * PIECE + 4321
BODY = blob(81, SIZE)


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        yield ground


def files_holding(directory: Path, data: bytes) -> list[tuple[Path, int]]:
    """Every file below ``directory`` that holds ``data``, and where."""
    found = []
    for file in directory.rglob("*"):
        if file.is_file() and (at := file.read_bytes().find(data)) >= 0:
            found.append((file, at))
    return found


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 0xFF]))


async def warm_range(ground: Ground, path: str, start: int, stop: int) -> None:
    """Wait until ``[start, stop)`` is answered without the origin."""

    async def is_hit() -> bool:
        return was_hit(await ground.get(path, ("Range", f"bytes={start}-{stop - 1}")))

    await eventually(is_hit)


async def test_a_clean_restart_keeps_everything(ground: Ground) -> None:
    bodies = {ground.add(blob(seed, size)): blob(seed, size) for seed, size in enumerate((0, 1, 5000, PIECE, SIZE))}
    shipped = ground.add(BODY, headers=())
    for path, body in bodies.items():
        assert (await ground.get(path)).body == body
    assert (await ground.get_as_client(shipped, ("Range", "bytes=0-9"), host=DO_HOST)).body == BODY[:10]
    await ground.origin.wait_done(shipped)

    async def all_kept() -> bool:
        return bool((await ground.node.status())["fills"] == 0)

    await eventually(all_kept)
    asked_before = [(record.path, record.range) for record in ground.origin.requests]
    await ground.node.restart()
    for path, body in bodies.items():
        response = await ground.get(path)
        assert (response.status, response.body == body, was_hit(response)) == (200, True, True)
        assert response.fields.value("Cache-Control") == FRESH[0][1]
    again = await ground.get_as_client(shipped, ("Range", f"bytes=0-{PIECE - 1}"), host=DO_HOST)
    assert (again.status, again.body == BODY[:PIECE]) == (206, True)
    assert [(record.path, record.range) for record in ground.origin.requests] == asked_before


async def test_kill_in_the_middle_of_a_fill_loses_no_stored_piece_and_no_byte(ground: Ground) -> None:
    path = ground.add(BODY, etag='"v1"')
    gate = ground.origin.gate(path, at=3 * PIECE + 1000)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, 3 * PIECE)
        await gate.reached()
        await warm_range(ground, path, 0, 3 * PIECE)
        await ground.node.kill()
        await client.finish(response)
        assert not response.complete
    gate.open()
    await ground.origin.wait_done(path)
    seen = len(ground.origin.asked(path))
    await ground.node.start()
    for asked in (("Range", "bytes=5-2000000"), ("Range", "bytes=0-")):
        again = await ground.get(path, asked)
        start, stop = (5, 2_000_001) if asked[1] == "bytes=5-2000000" else (0, SIZE)
        assert (again.status, again.body == BODY[start:stop]) == (206, True)
    later = ground.origin.asked(path)[seen:]
    starts = [int((record.range or "bytes=0-").removeprefix("bytes=").partition("-")[0]) for record in later]
    assert starts
    assert min(starts) >= 3 * PIECE
    assert sum(record.bytes_sent for record in later) <= SIZE - 3 * PIECE
    assert was_hit(await ground.get(path))


async def test_kills_at_any_moment_leave_only_right_bytes(ground: Ground) -> None:
    bodies: dict[str, bytes] = {}
    for number, moment in enumerate((1, PIECE, 5 * PIECE)):
        for seed in range(90 + 6 * number, 96 + 6 * number):  # what is there already may be stored by now
            bodies[ground.add(blob(seed, 3 * PIECE + seed))] = blob(seed, 3 * PIECE + seed)
        moment_came = asyncio.create_task(ground.origin.wait_sent(moment))
        clients = [asyncio.create_task(ground.get(path)) for path in bodies]
        await moment_came
        await ground.node.kill()
        await asyncio.gather(*clients, return_exceptions=True)
        await ground.node.start()
    for _ in ("cold or warm", "warm"):
        for path, body in bodies.items():
            response = await ground.get(path)
            assert (response.status, response.complete, response.body == body) == (200, True, True)


async def test_a_flipped_byte_on_disk_is_found_after_a_kill_and_fetched_again(ground: Ground) -> None:
    path = ground.add(BODY, etag='"v1"')
    assert (await ground.get(path)).body == BODY
    await warm_range(ground, path, 0, SIZE)
    await ground.node.kill()
    places = files_holding(ground.node.cache_dir, BODY[PIECE + 100 : PIECE + 200])
    assert len(places) == 1
    flip(*places[0])
    before = ground.origin.body_bytes(path)
    await ground.node.start()
    for _ in range(2):
        response = await ground.get(path)
        assert (response.status, response.complete, response.body == BODY) == (200, True, True)
    assert ground.origin.body_bytes(path) - before == PIECE
    assert (await ground.node.metrics()).total("cacheserver_verified_pieces_total", result="bad") == 1


async def test_object_files_that_are_cut_or_nonsense_do_not_stop_the_start(ground: Ground) -> None:
    paths = [ground.add(blob(seed, PIECE + seed)) for seed in range(100, 105)]
    for seed, path in zip(range(100, 105), paths, strict=True):
        assert (await ground.get(path)).body == blob(seed, PIECE + seed)
        await warm_range(ground, path, 0, PIECE)
    await ground.node.kill()
    for number, seed in enumerate(range(100, 104)):
        file = files_holding(ground.node.cache_dir, blob(seed, 200))[0][0]
        if number == 0:
            file.write_bytes(b"")
        elif number == 1:
            file.write_bytes(file.read_bytes()[: PIECE // 2])
        elif number == 2:
            file.write_bytes(blob(1, file.stat().st_size))
        else:
            file.unlink()
    (ground.node.cache_dir / "stranger").write_text("not mine")
    await ground.node.start()
    for seed, path in zip(range(100, 105), paths, strict=True):
        for _ in range(2):
            response = await ground.get(path)
            assert (response.status, response.body == blob(seed, PIECE + seed)) == (200, True)
    assert was_hit(await ground.get(paths[-1]))


async def test_the_cache_is_private_to_its_owner_and_names_hold_no_client_text(ground: Ground) -> None:
    path = ground.add(BODY, name="very-secret-name.bin")
    await ground.get(path)
    await ground.node.stop()
    for place in ground.node.cache_dir.rglob("*"):
        assert place.stat().st_mode & 0o077 == 0, place
        assert "secret" not in str(place.relative_to(ground.node.cache_dir))
    await ground.node.start()
