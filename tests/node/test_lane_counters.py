"""What the node counts of its fast lane, and that repeats notice a lane that answers nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import FRESH, HOST, Ground, GroundOptions, running_ground, was_hit
from tests.support.repeats import Repeats, lane_answers

BODY = blob(311, 50_000)
TEN = ("Range", "bytes=0-9")
LAST_TEN = ("Range", "bytes=-10")


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        yield ground


async def counted(ground: Ground) -> tuple[float, float]:
    """Answers of the lane, and hits that passed it."""
    metrics = await ground.node.metrics()
    return metrics.total("cacheserver_lane_answers_total"), metrics.total("cacheserver_lane_passed_total")


async def test_the_hit_that_teaches_a_head_is_no_answer_of_the_lane_and_every_later_one_is(ground: Ground) -> None:
    path = ground.add(BODY)
    for count in ((0, 0), (0, 0), (1, 0), (2, 0)):
        assert (await ground.get(path, TEN)).body == BODY[:10]
        assert await counted(ground) == count


async def test_a_large_answer_of_several_turns_is_counted_once(ground: Ground) -> None:
    body = blob(312, 6 << 20)
    path = ground.add(body)
    for _ in range(3):
        assert (await ground.get(path)).body == body
        await ground.origin.wait_done(path)
    assert await counted(ground) == (1, 0)


async def test_a_plain_hit_of_a_known_head_that_the_lane_cannot_answer_has_passed_it(ground: Ground) -> None:
    path = ground.add(BODY)
    for _ in range(2):
        await ground.get(path, TEN)
    for passed in (1, 2):
        assert (await ground.get(path, LAST_TEN)).body == BODY[-10:]
        assert await counted(ground) == (0, passed)


async def test_a_client_that_asks_on_at_once_is_answered_by_the_lane(ground: Ground) -> None:
    paths = [ground.add(b"number %d" % number) for number in range(50)]
    async with RawClient(*ground.node.content) as client:
        for _ in range(3):
            for path in paths:
                assert (await client.request("GET", path, host=HOST)).status == 200
    assert await counted(ground) == (50, 0)


async def test_a_hit_whose_head_came_behind_another_one_has_passed_the_lane(ground: Ground) -> None:
    path = ground.add(BODY)
    for _ in range(3):
        await ground.get(path)
    assert await counted(ground) == (1, 0)
    async with RawClient(*ground.node.content) as client:
        ten = client.head("GET", path, (LAST_TEN,), host=HOST)
        await client.send(ten + ten)
        for _ in range(2):
            assert (await client.receive()).body == BODY[-10:]
    assert await counted(ground) == (1, 2)


@pytest.mark.parametrize(
    "field",
    [("If-None-Match", '"no"'), ("If-Modified-Since", "junk"), ("Range", "bytes=0-9,40000-40009"), ("X-Odd", "1")],
)
async def test_a_hit_that_could_not_be_the_lanes_counts_as_neither(ground: Ground, field: tuple[str, str]) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    for _ in range(3):
        assert was_hit(await ground.get(path, field))
    assert was_hit(await ground.get(path, method="HEAD"))
    assert await counted(ground) == (0, 0)


async def test_a_node_without_a_lane_counts_nothing_and_repeats_say_so(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[server]\nfast_lane = false\n")) as ground:
        ground.repeats = Repeats(ground.node)
        path = ground.add(BODY)
        for _ in range(3):
            assert (await ground.get(path)).body == BODY
        assert await counted(ground) == (0, 0)
        assert (ground.repeats.sent, ground.repeats.by_lane) == (2, 0)


async def test_plain_warm_hits_alone_are_repeated(ground: Ground) -> None:
    ground.repeats = Repeats(ground.node)
    path, varied = ground.add(BODY), ground.add(BODY, headers=(*FRESH, ("Vary", "Accept")))
    await ground.get(path)
    assert ground.repeats.sent == 0, "a miss"
    for field in (
        LAST_TEN,
        ("Range", "bytes=0-9,40000-40009"),
        ("If-None-Match", '"no"'),
        ("Cache-Control", "max-age=9"),
    ):
        await ground.get(path, field)
    await ground.get(path, method="HEAD")
    for _ in range(2):
        await ground.get(varied)
    assert ground.repeats.sent == 0, "hits that are not plain"
    await ground.get(path)
    await ground.get(path, TEN)
    await ground.get_as_client(path)
    assert (ground.repeats.sent, ground.repeats.by_lane) == (3, 3)
    assert await lane_answers(ground.node) >= 3


async def test_a_repeat_with_another_answer_is_told(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    hit, repeats = await ground.get(path), Repeats(ground.node)
    hit.raw_head = re.sub(rb"ETag: [^\r]*", b'ETag: "other"', hit.raw_head)
    with pytest.raises(AssertionError, match="another answer"):
        await repeats.after(hit, path, (), HOST, "GET")
