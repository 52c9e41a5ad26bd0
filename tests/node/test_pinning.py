"""Pinned content: whole without a client, there whatever comes, whole again when a piece was spoilt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.client import RawClient
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, GroundOptions, running_ground, was_hit
from tests.support.manifests import phf, phf_path
from tests.support.operator import admin, file_of, flip, post, run

SMALL = GroundOptions(max_size="32MiB", config='[store]\nextent = "4MiB"\n')
BODY = blob(900, 10 * PIECE + 77)


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, SMALL) as ground:
        yield ground


def url(path: str, host: str = HOST) -> str:
    return f"http://{host}{path}"


async def pins(ground: Ground) -> dict[str, dict[str, Any]]:
    """The listed pins by URL."""
    listed = json.loads((await ground.node.ask_admin("/api/v1/pins")).body)["pins"]
    return {pin["url"]: pin for pin in listed}


async def completed(ground: Ground, path: str, host: str = HOST) -> None:
    """Wait until a pin is complete."""

    async def is_complete() -> bool:
        return bool((await pins(ground))[url(path, host)]["complete"])

    await eventually(is_complete)


async def pinned(ground: Ground, body: bytes = BODY) -> str:
    """The path of a content that is pinned and complete."""
    path = ground.add(body)
    status, answer = await post(ground, "/api/v1/pin", {"url": url(path)})
    assert status == 200, answer
    await completed(ground, path)
    return path


async def posted_by_a_page(ground: Ground, action: str, line: tuple[str, str]) -> int:
    """Status of an act as a page of another site could make a browser send it."""
    lines = {"Content-Type": "application/json", "Content-Length": "2"} | dict([line])
    async with RawClient(*ground.node.admin) as client:
        await client.send(client.head("POST", action, list(lines.items())) + b"{}")
        return (await client.receive()).status


async def press(ground: Ground, first: int, contents: int = 96) -> None:
    """Have clients fetch as many megabytes, three times the volume unless said otherwise."""
    for seed in range(first, first + contents, 4):
        bodies = [blob(seed + number, PIECE - 100) for number in range(4)]
        responses = await asyncio.gather(*(ground.get(ground.add(body)) for body in bodies))
        assert all(response.body == body for response, body in zip(responses, bodies, strict=True))


async def test_a_pin_is_fetched_whole_without_a_client_and_only_once(ground: Ground) -> None:
    path = await pinned(ground)
    assert ground.origin.body_bytes(path) in (len(BODY), len(BODY) + 1)  # one byte tells the length
    assert not [line for line in ground.node.log if "outcome" in line]
    facts = (await pins(ground))[url(path)]
    assert (facts["state"], facts["percent"], facts["length_bytes"]) == ("complete", 100, len(BODY))
    assert (facts["stored_bytes"], facts["trust"]) == (len(BODY), "simple")
    before = ground.origin.bytes_sent
    assert (await ground.get(path)).body == BODY
    assert ground.origin.bytes_sent == before
    metrics = await ground.node.metrics()
    assert metrics.total("cacheserver_pinned_objects") == 1
    assert len(BODY) < metrics.total("cacheserver_pinned_bytes") < len(BODY) + PIECE
    assert (await ground.node.status())["pins"]["complete"] == 1
    shown = await ground.node.ask_admin(f"/api/v1/objects?url={quote(url(path), safe='')}")
    assert json.loads(shown.body)["pinned"] is True
    for event in ("pinned", "pin_completed"):
        assert [line["object_id"] for line in ground.node.log if line.get("event") == event] == [facts["object_id"]]


async def test_a_pin_stays_under_three_times_the_volume_and_goes_once_it_is_unpinned(ground: Ground) -> None:
    path = await pinned(ground)
    asked = len(ground.origin.asked(path))
    await press(ground, 1000)
    response = await ground.get(path)
    assert was_hit(response)
    assert response.body == BODY
    assert len(ground.origin.asked(path)) == asked, "it was never away"
    assert (await post(ground, "/api/v1/unpin", {"url": url(path)}))[0] == 200
    assert (await post(ground, "/api/v1/unpin", {"url": url(path)}))[0] == 404
    assert await pins(ground) == {}
    await press(ground, 2000)
    assert not was_hit(await ground.get(path))
    assert (await ground.node.metrics()).total("cacheserver_pinned_bytes") == 0


async def test_a_piece_that_the_scrubber_finds_bad_is_fetched_again_without_a_client(ground: Ground) -> None:
    path = await pinned(ground)
    flip(file_of(ground, BODY), 3 * PIECE + 5, 2)
    flip(file_of(ground, BODY), 10 * PIECE + 5, 2)
    asked, before = len(ground.origin.asked(path)), ground.origin.body_bytes(path)
    mark = len(ground.node.log)
    assert (await run("scrub", "--now", "--admin", admin(ground))).code == 3
    await ground.node.wait_log(lambda line: line.get("event") == "pin_completed", since=mark)
    assert {record.range for record in ground.origin.asked(path)[asked:]} == {
        f"bytes={3 * PIECE}-{4 * PIECE - 1}",
        f"bytes={10 * PIECE}-{len(BODY) - 1}",
    }
    assert ground.origin.body_bytes(path) - before == PIECE + 77
    assert (await run("scrub", "--now", "--admin", admin(ground))).code == 0
    assert (await ground.get(path)).body == BODY
    assert ground.origin.body_bytes(path) - before == PIECE + 77


async def test_a_piece_that_a_delivery_finds_bad_after_a_kill_is_fetched_again(ground: Ground) -> None:
    path = await pinned(ground)
    await ground.node.kill()
    flip(file_of(ground, BODY), 7 * PIECE, 0)
    await ground.node.start()
    await completed(ground, path)
    assert (await ground.get(path, ("Range", f"bytes={7 * PIECE}-{7 * PIECE + 9}"))).body == BODY[7 * PIECE :][:10]
    await completed(ground, path)
    before = ground.origin.bytes_sent
    assert (await ground.get(path)).body == BODY
    assert ground.origin.bytes_sent == before


async def test_pins_survive_a_kill_and_are_completed_and_kept_after_it(ground: Ground) -> None:
    whole, part = await pinned(ground), ground.add(blob(901, 4 * PIECE))
    gate = ground.origin.gate(part, at=2 * PIECE)
    assert (await post(ground, "/api/v1/pin", {"url": url(part)}))[0] == 200
    await gate.reached()
    await ground.node.kill()
    gate.open()
    await ground.node.start()
    assert list(await pins(ground)) == [url(whole), url(part)]
    await completed(ground, part)
    asked = [len(ground.origin.asked(path)) for path in (whole, part)]
    await press(ground, 3000)
    assert (await ground.get(whole)).body == BODY
    assert (await ground.get(part)).body == blob(901, 4 * PIECE)
    assert [len(ground.origin.asked(path)) for path in (whole, part)] == asked
    await ground.node.restart()
    assert list(await pins(ground)) == [url(whole), url(part)]
    assert (ground.node.cache_dir / "pins").stat().st_mode & 0o777 == 0o600


async def test_more_than_the_share_of_the_volume_is_refused_with_one_line(ground: Ground) -> None:
    await pinned(ground)
    path = ground.add(blob(902, 7 * PIECE))
    ran = await run("pin", url(path), "--admin", admin(ground))
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "pinned_percent = 50" in ran.err
    assert len(await pins(ground)) == 1
    fitting = ground.add(blob(903, 4 * PIECE))
    ran = await run("pin", url(fitting), "--admin", admin(ground))
    assert (ran.code, ran.out.startswith(f"pinned: {url(fitting)} 4")) == (0, True), ran


async def test_a_new_generation_beyond_the_share_is_not_kept_and_says_why(ground: Ground) -> None:
    path = await pinned(ground, blob(904, 2 * PIECE))
    ground.origin.add(path, Content(blob(905, 17 * PIECE), headers=FRESH))
    assert (await post(ground, "/api/v1/purge", {"url": url(path)}))[0] == 200

    async def says_why() -> bool:
        pin = (await pins(ground))[url(path)]
        return pin["state"] == "waiting" and "pinned_percent" in pin["reason"]

    await eventually(says_why)
    assert (await ground.node.metrics()).total("cacheserver_pinned_bytes") == 0


async def test_a_volume_full_of_pins_passes_clients_through(tmp_path: Path) -> None:
    config = '[store]\npinned_percent = 100\nextent = "4MiB"\n'
    async with running_ground(tmp_path, GroundOptions(max_size="8MiB", config=config)) as ground:
        path = await pinned(ground, body := blob(906, 8 * PIECE - 100_000))
        await press(ground, 4000, 16)
        before = ground.origin.bytes_sent
        assert (await ground.get(path)).body == body
        assert ground.origin.bytes_sent == before


async def test_an_origin_out_of_reach_is_tried_again_until_it_is_back(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.origin.go_down()
    ran = await run("pin", url(path), "--admin", admin(ground))
    assert (ran.code, "waiting" in ran.out) == (0, True), ran
    await ground.node.wait_log(lambda line: line.get("event") == "pin_failed" and line["tries"] == 2)
    tries = [line["retry_s"] for line in ground.node.log if line.get("event") == "pin_failed"]
    assert tries == [1, 2]
    await ground.origin.come_up()
    await completed(ground, path)
    assert (await ground.get(path)).body == BODY


async def test_an_origin_that_breaks_in_the_middle_costs_only_the_rest(ground: Ground) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, Fault(), *(Fault(reset_after=3 * PIECE + 1000) for _ in range(2)))
    assert (await post(ground, "/api/v1/pin", {"url": url(path)}))[0] == 200
    await completed(ground, path)
    assert (await ground.get(path)).body == BODY
    assert ground.origin.body_bytes(path) < len(BODY) + 6 * PIECE


async def test_a_purged_pin_is_fetched_anew_and_follows_the_new_generation(ground: Ground) -> None:
    path, newer = await pinned(ground), blob(907, 5 * PIECE)
    ground.origin.add(path, Content(newer, headers=FRESH))
    mark = len(ground.node.log)
    assert (await post(ground, "/api/v1/purge", {"url": url(path)}))[0] == 200
    await ground.node.wait_log(lambda line: line.get("event") == "pin_completed", since=mark)
    before = ground.origin.bytes_sent
    assert (await ground.get(path)).body == newer
    assert ground.origin.bytes_sent == before


async def test_a_generation_that_a_client_brings_is_completed(ground: Ground) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", "max-age=0, must-revalidate"),))
    assert (await post(ground, "/api/v1/pin", {"url": url(path)}))[0] == 200
    await completed(ground, path)
    newer = blob(908, 9 * PIECE)
    ground.origin.add(path, Content(newer, headers=FRESH))
    mark = len(ground.node.log)
    assert (await ground.get(path, ("Range", "bytes=0-9"))).body == newer[:10]
    await ground.node.wait_log(lambda line: line.get("event") == "pin_completed", since=mark)
    before = ground.origin.bytes_sent
    assert (await ground.get(path)).body == newer
    assert ground.origin.bytes_sent == before


async def test_what_cannot_be_pinned_is_refused_with_the_reason(ground: Ground) -> None:
    varying = ground.add(blob(909, PIECE), headers=(*FRESH, ("Vary", "Accept")))
    private = ground.add(blob(910, PIECE), headers=(("Cache-Control", "no-store"),))
    missing = ground.new_path()
    for path, word in ((varying, "Vary: accept"), (private, "no-store"), (missing, "404")):
        for _ in range(2):  # the second time the node knows
            status, answer = await post(ground, "/api/v1/pin", {"url": url(path)})
            assert (status, word in answer["error"]) == (409, True), answer
    assert (await post(ground, "/api/v1/pin", {"url": "http://unknown.example/x"}))[0] == 400
    assert (await post(ground, "/api/v1/pin", {}))[0] == 400
    for line, refusal in ((("Content-Type", "text/plain"), 415), (("Origin", "http://evil.example"), 403)):
        assert await posted_by_a_page(ground, "/api/v1/pin", line) == refusal
        assert await posted_by_a_page(ground, "/api/v1/unpin", line) == refusal
    assert (await post(ground, "/api/v1/unpin", {"object_id": "0" * 32}))[0] == 404
    assert await pins(ground) == {}


async def test_commands_pin_list_and_unpin_and_show_no_token(ground: Ground) -> None:
    path, body = "/filestreamingservice/files/00000000-0000-4000-8000-0000000000ab", blob(911, 3 * PIECE)
    ground.origin.add(phf_path(path), Content(phf(body)))
    ground.origin.add(path, Content(body))
    other = ground.add(blob(912, 1000))
    pin = await run("pin", f"{url(path, DO_HOST)}?P1=1&P4=s3cret", url(other), "--admin", admin(ground))
    assert (pin.code, pin.out.count("pinned: ")) == (0, 2), pin
    await completed(ground, path, DO_HOST)
    await completed(ground, other)
    listed = await run("pins", "--admin", admin(ground))
    assert listed.out.splitlines() == [
        f"{url(path, DO_HOST)} 3MiB complete self_consistent",
        f"{url(other)} 1000B complete simple",
        "2 pinned, 2 complete",
    ]
    await ground.node.restart()
    await completed(ground, path, DO_HOST)
    assert not any("s3cret" in json.dumps(line) for line in ground.node.log)
    object_id = (await pins(ground))[url(path, DO_HOST)]["object_id"]
    unpin = await run("unpin", object_id, url(other), "--admin", admin(ground))
    assert (unpin.code, unpin.out) == (0, f"unpinned: {object_id}\nunpinned: {url(other)}\n")
    again = await run("unpin", url(other), "--admin", admin(ground))
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert (await run("pin")).code == 2
    assert (await run("pins", "--admin", "nonsense")).code == 2


async def test_a_client_takes_what_a_pin_has_begun_and_does_not_wait_for_the_rest(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=PIECE)
    assert (await post(ground, "/api/v1/pin", {"url": url(path)}))[0] == 200
    await gate.reached()
    async with RawClient(*ground.node.content) as client:
        late = await client.start("GET", path, (("Range", f"bytes=0-{PIECE - 1}"),), host=HOST)
        await client.finish(late)
        assert late.body == BODY[:PIECE]
    gate.open()
    assert (await ground.get(path)).body == BODY
    await completed(ground, path)
    assert ground.origin.body_bytes(path) in (len(BODY), len(BODY) + 1)
