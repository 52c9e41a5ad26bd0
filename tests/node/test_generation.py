"""One response, one generation: what happens when the origin's object changes while it is being filled or read."""

from __future__ import annotations

import pytest

from tests.support.client import RawClient
from tests.support.content import Content, Fault, FieldLines, blob, http_date
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, GroundOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(config='[fill]\nparallel = 1\nspan_pieces = 1\nbackoff_s = 0.02\nspool_bytes = "16MiB"\n')
"""One piece at a time, so that a change always falls between two upstream requests."""

SIZE = 6 * PIECE + 77
OLD, SAME_SIZE, SHORTER, LONGER = blob(71, SIZE), blob(72, SIZE), blob(73, 2 * PIECE + 5), blob(74, 9 * PIECE)
DATE, LATER = http_date(1_750_000_000), http_date(1_750_003_600)

VALIDATORS: dict[str, tuple[tuple[str | None, str | None], tuple[str | None, str | None]]] = {
    "tags": (('"v1"', None), ('"v2"', None)),
    "dates": ((None, DATE), (None, LATER)),
    "both": (('"v1"', DATE), ('"v2"', LATER)),
    "a tag that appears": ((None, None), ('"v2"', None)),
    "a tag that disappears": (('"v1"', None), (None, None)),
    "weak tags": (('W/"v1"', None), ('W/"v2"', None)),
    "nothing": ((None, None), (None, None)),
}
NEW_BODIES = {"the same length": SAME_SIZE, "shorter": SHORTER, "longer": LONGER}


def pair(validators: str, new_body: bytes, headers: FieldLines = FRESH) -> tuple[Content, Content]:
    """The old and the new generation."""
    (tag, date), (new_tag, new_date) = VALIDATORS[validators]
    return Content(OLD, tag, date, headers), Content(new_body, new_tag, new_date, headers)


@pytest.mark.parametrize("length", NEW_BODIES)
@pytest.mark.parametrize("validators", VALIDATORS)
async def test_a_change_in_the_middle_of_a_fill_never_mixes_bodies(
    ground: Ground, validators: str, length: str
) -> None:
    old, new = pair(validators, NEW_BODIES[length])
    path = ground.new_path()
    ground.origin.add(path, old)
    gate = ground.origin.gate(path, at=PIECE // 2)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, host=HOST)
        assert await client.read_body(response, PIECE // 2) == OLD[: PIECE // 2]
        await gate.reached()
        asked_before = len(ground.origin.asked(path))
        ground.origin.add(path, new)
        gate.open()
        await client.finish(response)
    assert OLD.startswith(response.body)
    assert response.complete == (len(response.body) == SIZE)
    await ground.origin.wait_done(path)
    if len(ground.origin.asked(path)) > asked_before:
        after = await ground.get(path)
        assert (after.status, after.complete, after.body == new.body) == (200, True, True)
        assert after.fields.value("ETag") == new.entity_tag


@pytest.mark.parametrize("validators", VALIDATORS)
@pytest.mark.parametrize("length", NEW_BODIES)
async def test_a_range_of_a_changed_object_carries_the_validator_of_its_bytes(
    ground: Ground, validators: str, length: str
) -> None:
    old, new = pair(validators, NEW_BODIES[length])
    path = ground.new_path()
    ground.origin.add(path, old)
    truths = {(content.entity_tag, content.last_modified, len(content.body)): content.body for content in (old, new)}
    for piece in (0, 1, 2, 0, 1):
        response = await ground.get(path, ("Range", f"bytes={piece * PIECE}-{piece * PIECE + 9}"))
        if piece == 0:
            ground.origin.add(path, new)
        assert response.status in (206, 502)
        if response.status == 206 and validators != "nothing":
            total = int((response.fields.value("Content-Range") or "/0").rpartition("/")[2])
            key = (response.fields.value("ETag"), response.fields.value("Last-Modified"), total)
            assert response.body == truths[key][piece * PIECE : piece * PIECE + 10]
        elif response.status == 206:
            assert response.body in {body[piece * PIECE : piece * PIECE + 10] for body in (OLD, new.body)}
    whole = await ground.get(path)
    assert (whole.complete, whole.body in (OLD, new.body)) == (True, True)


async def test_an_old_reader_is_cut_and_the_next_request_gets_the_new_generation(ground: Ground) -> None:
    old, new = pair("tags", SAME_SIZE)
    path = ground.new_path()
    ground.origin.add(path, old)
    gate = ground.origin.gate(path, at=PIECE // 2)
    async with RawClient(*ground.node.content) as one, RawClient(*ground.node.content) as two:
        first = await one.start("GET", path, host=HOST)
        second = await two.start("GET", path, [("Range", f"bytes=1000-{SIZE - 1}")], host=HOST)
        await one.read_body(first, PIECE // 2)
        await two.read_body(second, 1000)
        ground.origin.add(path, new)
        gate.open()
        await one.finish(first)
        await two.finish(second)
    assert not first.complete
    assert not second.complete
    assert OLD.startswith(first.body)
    assert OLD[1000:].startswith(second.body)
    for _ in range(2):
        after = await ground.get(path)
        assert (after.status, after.body == SAME_SIZE, after.fields.value("ETag")) == (200, True, '"v2"')


async def test_a_client_that_resumes_after_the_cut_learns_that_the_object_changed(ground: Ground) -> None:
    old, new = pair("tags", LONGER)
    path = ground.new_path()
    ground.origin.add(path, old)
    assert (await ground.get(path, ("Range", "bytes=0-9"))).body == OLD[:10]
    ground.origin.add(path, new)
    resume = (("Range", f"bytes={3 * PIECE}-"), ("If-Range", '"v1"'))
    for _ in range(2):
        response = await ground.get(path, *resume)
        if response.status == 200:
            break
    assert (response.status, response.complete, response.body == LONGER) == (200, True, True)


async def test_a_change_of_an_immutable_path_is_noticed_too(ground: Ground) -> None:
    path = ground.add(OLD, headers=(), etag='"v1"')
    asked = ("Range", f"bytes=0-{PIECE - 1}")
    assert (await ground.get_as_client(path, asked, host=DO_HOST)).body == OLD[:PIECE]
    ground.origin.add(path, Content(SAME_SIZE, etag='"v2"'))
    for _ in range(2):
        response = await ground.get_as_client(path, ("Range", f"bytes={PIECE}-"), host=DO_HOST)
        if response.complete and response.status == 206:
            break
    assert response.body == SAME_SIZE[PIECE:]
    assert (await ground.get_as_client(path, asked, host=DO_HOST)).body == SAME_SIZE[:PIECE]


async def test_an_origin_that_flaps_between_generations_never_makes_a_mixed_body(ground: Ground) -> None:
    old, new = pair("both", SAME_SIZE)
    path = ground.new_path()
    ground.origin.add(path, old)
    ground.origin.fault(path, *[Fault(become=new if n % 2 else old) for n in range(40)])
    for _ in range(4):
        async with RawClient(*ground.node.content) as client:
            response = await client.request("GET", path, host=HOST)
        if response.status == 200:
            assert OLD.startswith(response.body) or SAME_SIZE.startswith(response.body)
            assert response.complete == (len(response.body) == SIZE)
        else:
            assert response.status in (502, 503, 504)
    ground.origin.heal(path)
    ground.origin.add(path, new)
    await ground.get(path)
    assert (await ground.get(path, ("Cache-Control", "no-cache"))).body == SAME_SIZE


async def test_weakly_tagged_pieces_of_two_answers_are_not_put_together(ground: Ground) -> None:
    path = ground.add(OLD, etag='W/"v1"')
    assert (await ground.get(path, ("Range", "bytes=0-9"))).body == OLD[:10]
    ground.origin.add(path, Content(SAME_SIZE, etag='W/"v1"', headers=FRESH))
    whole = await ground.get(path)
    assert (whole.complete, whole.body == SAME_SIZE or whole.body == OLD) == (True, True)
