"""A running node, bytes flipped under it, and an operator with a shell."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.client import RawClient
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, HOST, PIECE, Ground, GroundOptions, running_ground, was_hit
from tests.support.manifests import manifest_of, phf, phf_path, signed_catalogue
from tests.support.operator import admin, file_of, flip, post, run


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        yield ground


async def held(ground: Ground, count: int, size: int) -> dict[str, bytes]:
    """Contents that the node holds completely and has given to clients; path → body."""
    bodies = {ground.add(body): body for number in range(count) if (body := blob(300 + number, size))}

    for path, body in bodies.items():

        async def is_warm(path: str = path) -> bool:
            return was_hit(await ground.get(path))

        assert (await ground.get(path)).body == body
        await eventually(is_warm)
    return bodies


async def test_scrub_now_finds_every_flipped_bit_and_clients_get_right_bytes_again(ground: Ground) -> None:
    bodies, lots = await held(ground, 5, 6 * PIECE + 77), random.Random(3)
    files = {path: file_of(ground, body) for path, body in bodies.items()}
    spoilt = {(path, piece) for path in bodies for piece in lots.sample(range(1, 7), 3)}
    for path, piece in spoilt:
        flip(files[path], piece * PIECE + lots.randrange(77), lots.randrange(8))
    ran = await run("scrub", "--now", "--admin", admin(ground))
    assert ran.code == 3, ran
    assert ran.out.startswith("scrub: 35 pieces, ")
    assert "15 bad, 0 unreadable" in ran.out
    before = ground.origin.bytes_sent
    for path, body in bodies.items():
        response = await ground.get(path)
        assert (response.status, response.complete, response.body == body) == (200, True, True)
    bad_bytes = sum(77 if piece == 6 else PIECE for _, piece in spoilt)
    assert ground.origin.bytes_sent - before == bad_bytes
    metrics = await ground.node.metrics()
    assert metrics.total("cacheserver_verified_pieces_total", level="at_rest", result="bad") == 15
    assert metrics.total("cacheserver_quarantined_pieces") == 15
    assert metrics.total("cacheserver_scrubbed_bytes_total") == 5 * (6 * PIECE + 77)
    assert metrics.total("cacheserver_scrub_last_complete_timestamp_seconds") > 1e9
    assert len(list((ground.node.cache_dir / "quarantine").iterdir())) == 15
    again = await run("scrub", "--now", "--admin", admin(ground))
    assert (again.code, "0 bad" in again.out) == (0, True)


async def test_an_answer_on_its_way_is_cut_or_right_but_never_wrong(ground: Ground) -> None:
    ((path, body),) = (await held(ground, 1, 40 * PIECE)).items()
    async with RawClient(*ground.node.content, receive_buffer=65536) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, PIECE)
        flip(file_of(ground, body), 39 * PIECE + 5, 0)
        assert (await run("scrub", "--now", "--admin", admin(ground))).code == 3
        await client.finish(response)
    assert response.body == body[: len(response.body)]
    assert (await ground.get(path)).body == body


@pytest.mark.parametrize("field", [(), (("If-None-Match", '"another"'),)], ids=["lane", "full path"])
async def test_an_answer_that_has_sent_some_of_a_piece_that_proves_bad_is_cut(
    ground: Ground, field: tuple[tuple[str, str], ...]
) -> None:
    ((path, body),) = (await held(ground, 1, 40 * PIECE)).items()
    async with RawClient(*ground.node.content, receive_buffer=65536) as client:
        response = await client.start("GET", path, field, host=HOST)
        await client.read_body(response, 2 * PIECE)
        flip(file_of(ground, body), 5, 0)
        assert (await run("scrub", "--now", "--admin", admin(ground))).code == 3
        await client.finish(response)
    assert not response.complete


async def test_scrub_tells_what_it_knows_and_who_does_not_answer(ground: Ground) -> None:
    ran = await run("scrub", "--admin", admin(ground))
    assert (ran.code, ran.out.startswith("scrubber ")) == (0, True)
    assert "everything in 7 days, last complete never" in ran.out
    await ground.node.stop()
    gone = await run("scrub", "--now", "--admin", admin(ground))
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.count("\n") == 1
    assert (await run("scrub", "--admin", "nonsense")).code == 2
    await ground.node.start()


async def test_the_token_is_needed_and_can_come_from_the_environment(tmp_path: Path) -> None:
    config = '[admin]\ntoken = "0123456789abcdef"\n'
    async with running_ground(tmp_path, GroundOptions(config=config)) as ground:
        assert (await run("scrub", "--now", "--admin", admin(ground))).code == 1
        ran = await run("scrub", "--now", "--admin", admin(ground), "--token", "0123456789abcdef")
        assert ran.code == 0, ran


async def test_verify_names_each_bad_piece_of_a_stopped_nodes_cache(ground: Ground) -> None:
    bodies = await held(ground, 2, 3 * PIECE)
    first, second = (file_of(ground, body) for body in bodies.values())
    refused = await run("verify", ground.node.cache_dir)
    assert refused.code == 2
    await ground.node.stop()
    assert (await run("verify", ground.node.cache_dir)).out == "verified: 2 objects, 6 pieces; 0 bad\n"
    flip(first, PIECE, 4)
    flip(first, 2 * PIECE, 4)
    for arguments in ((ground.node.cache_dir,), ("--cache-dir", ground.node.cache_dir)):
        ran = await run("verify", *arguments)
        assert ran.code == 3
        assert set(ran.out.splitlines()) == {
            f"bad: {first.name} piece 1: bad",
            f"bad: {first.name} piece 2: bad",
            "verified: 2 objects, 6 pieces; 2 bad",
        }
    assert (await run("verify", second)).out == "verified: 1 object, 3 pieces; 0 bad\n"
    assert (await run("verify", first)).code == 3
    second.write_bytes(b"not an object")
    ran = await run("verify", ground.node.cache_dir)
    assert (ran.code, f"bad: {second.name}: no object file" in ran.out) == (3, True)
    await ground.node.start()
    for path, body in bodies.items():
        assert (await ground.get(path)).body == body


async def test_verify_of_what_is_not_there_or_no_cache_makes_nothing(ground: Ground, tmp_path: Path) -> None:
    assert (await run("verify", tmp_path / "none")).code == 1
    (tmp_path / "plain").mkdir()
    assert (await run("verify", tmp_path / "plain")).code == 2
    assert not list((tmp_path / "plain").iterdir())
    assert (await run("verify")).code == 2


async def test_verify_of_a_url_asks_the_running_node(ground: Ground) -> None:
    ((path, body),) = (await held(ground, 1, 5 * PIECE)).items()
    url = f"http://{HOST}{path}"
    clean = await run("verify", url, "--admin", admin(ground))
    assert (clean.code, clean.out) == (0, "verified: 1 object, 5 pieces; 0 bad\n")
    flip(file_of(ground, body), 3 * PIECE + 9, 1)
    ran = await run("verify", url, "--admin", admin(ground))
    assert ran.code == 3
    assert ran.out.splitlines()[0].endswith(" piece 3: bad")
    assert (await ground.get(path)).body == body
    assert (await run("verify", f"http://{HOST}/never-asked", "--admin", admin(ground))).code == 1
    assert (await run("verify", "http://unknown.example/x", "--admin", admin(ground))).code == 1


async def test_a_purged_url_is_fetched_anew(ground: Ground) -> None:
    ((path, body),) = (await held(ground, 1, 2 * PIECE)).items()
    newer = blob(999, PIECE)
    ground.origin.add(path, Content(newer, headers=(("Cache-Control", "max-age=3600"),)))
    assert (await ground.get(path)).body == body
    status, answer = await post(ground, "/api/v1/purge", {"url": f"http://{HOST}{path}?"})
    assert status == 404  # "?" is part of the key of an own service
    status, answer = await post(ground, "/api/v1/purge", {"url": f"http://{HOST}{path}"})
    assert (status, answer["purged"]) == (200, 1)
    assert (await ground.get(path)).body == newer
    line = await ground.node.wait_log(lambda line: line.get("event") == "admin_purge" and line.get("removed") == 1)
    assert line["client"] == "127.0.0.1"


async def test_a_ban_is_shown_and_can_be_lifted(ground: Ground, tmp_path: Path) -> None:
    body, guids = blob(5, 4 * PIECE), [f"00000000-0000-4000-8000-0000000000a{number}" for number in range(3)]
    path = f"/filestreamingservice/files/{guids[0]}"
    signed, mark = signed_catalogue(tmp_path, dict.fromkeys(guids, manifest_of(body))), len(ground.node.log)
    ground.node.config_file.write_text(ground.node.config_file.read_text() + signed)
    ground.node.reload()
    await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)

    async def is_banned() -> bool:
        return bool((await ground.node.status())["banned_sources"])

    for guid in guids:
        assert not await is_banned()
        bad = f"/filestreamingservice/files/{guid}"
        ground.origin.add(phf_path(bad), Content(phf(body)))
        ground.origin.add(bad, Content(blob(6, 4 * PIECE)))
        await ground.get_as_client(bad, host=DO_HOST)
    await eventually(is_banned)
    (ban,) = (await ground.node.status())["banned_sources"]
    ground.origin.add(path, Content(body))
    assert (await post(ground, "/api/v1/bans/lift", {"source": ban["source"]}))[0] == 200
    assert not await is_banned()
    response = await ground.get_as_client(path, host=DO_HOST)
    assert (response.status, response.body == body) == (200, True)
    assert (await post(ground, "/api/v1/bans/lift", {"source": ban["source"]}))[0] == 404


async def test_facts_of_an_object_follow_its_life(ground: Ground) -> None:
    path = ground.add(blob(8, 2 * PIECE))
    asked = f"/api/v1/objects?url=http%3A%2F%2F{HOST}{path}"
    assert (await ground.node.ask_admin(asked)).status == 404
    ground.origin.fault(path, Fault())
    assert (await ground.get(path)).status == 200

    async def is_complete() -> bool:
        return bool(json.loads((await ground.node.ask_admin(asked)).body).get("complete"))

    await eventually(is_complete)
    facts = json.loads((await ground.node.ask_admin(asked)).body)
    assert (facts["pieces"], facts["pieces_checked"], facts["trust"], facts["fresh"]) == (2, 2, "simple", True)
    assert facts["origin"] == f"http://{HOST}"


async def test_purge_command_names_each_object_once_and_fails_where_nothing_is(ground: Ground) -> None:
    (path, _), (other, other_body) = (await held(ground, 2, PIECE)).items()
    names = (f"http://{HOST}{path}?P4=s3cret", file_of(ground, other_body).name)
    ran = await run("purge", f"http://{HOST}{path}", names[1], "--admin", admin(ground))
    assert (ran.code, ran.out) == (0, f"purged: http://{HOST}{path} (1 object)\npurged: {names[1]} (1 object)\n"), ran
    again = await run("purge", *names, "--admin", admin(ground))
    assert (again.code, again.out, again.err.count("\n")) == (1, "", 2)
    assert again.err.count("nothing is stored there\n") == 2
    assert "s3cret" not in again.err
    assert not was_hit(await ground.get(other))


@contextmanager
def immutable(file: Path) -> Iterator[None]:
    """Let nobody remove a file; skips where that cannot be had."""
    if subprocess.run(("chattr", "+i", file), capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root and a file system whose files can be made immutable")
    try:
        yield
    finally:
        subprocess.run(("chattr", "-i", file), check=True)


async def test_purge_that_the_disk_refuses_says_so_and_holds_all_the_same(ground: Ground) -> None:
    ((path, body),) = (await held(ground, 1, PIECE)).items()
    file, volume = file_of(ground, body), str(ground.node.cache_dir)
    with immutable(file):
        ran = await run("purge", f"http://{HOST}{path}", "--admin", admin(ground))
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1), ran
        assert f"not served any more, but {volume} does not let the file go" in ran.err
        status, answer = await post(ground, "/api/v1/purge", {"url": f"http://{HOST}{path}"})
        assert (status, answer["away"], answer["left_on"]) == (404, [], [volume])
        for _ in range(8):
            assert not was_hit(await ground.get(path))
        assert (await ground.node.metrics()).total("cacheserver_store_online") == 1
    ran = await run("purge", f"http://{HOST}{path}", "--admin", admin(ground))
    assert (ran.code, ran.out) == (0, f"purged: http://{HOST}{path} (1 object)\n"), ran
    assert not file.exists()
    assert (await ground.get(path)).body == body
