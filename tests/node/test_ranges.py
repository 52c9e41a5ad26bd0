"""Ranges, cold and warm, from a large and an empty object: every byte compared with the truth."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.byteranges import content_range, parts_of
from tests.support.client import RawClient, Response
from tests.support.content import Content, Fault, FieldLines, blob
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, was_hit
from tests.support.tables import cases

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 2_442_830
BODY = blob(21, SIZE)
TAG = '"v1"'
DATE = "Tue, 01 Jul 2025 10:00:00 GMT"
PART_HEAD = 400
"""More than a part's delimiter, Content-Type and Content-Range take."""
PROBE = 2
"""Bytes that it may cost to learn the length of an object that nothing is known of."""

Span = tuple[int, int]


def spans_of(response: Response, body: bytes) -> list[Span]:
    """The spans of a 206, ascending, after every byte of them was compared."""
    if (response.fields.value("Content-Type") or "").startswith("multipart/"):
        assert "Content-Range" not in response.fields
        parts = [(part.start, part.stop, part.total, part.body) for part in parts_of(response)]
        assert len(parts) > 1
    else:
        parts = [(*content_range(response.fields), response.body)]
    for start, stop, total, data in parts:
        assert total == len(body)
        assert data == body[start:stop]
    return sorted((start, stop) for start, stop, _, _ in parts)


def assert_covers(got: list[Span], wanted: list[Span]) -> None:
    """``got`` holds ``wanted``, in disjoint spans, and nothing more than small gaps between its members."""
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(got))
    for start, stop in wanted:
        assert any(a <= start and stop <= b for a, b in got), (start, stop, got)
    edges = {start for start, _ in wanted}, {stop for _, stop in wanted}
    assert all(a in edges[0] and b in edges[1] for a, b in got), got


async def add(ground: Ground, *, warm: bool, body: bytes = BODY, headers: FieldLines = FRESH) -> str:
    path = ground.add(body, etag=TAG, last_modified=DATE, headers=headers)
    if warm:
        assert (await ground.get(path)).body == body
    return path


warmth = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])


@warmth
@pytest.mark.parametrize("case", cases("ranges.toml", "range"))
async def test_a_range_field_gets_its_answer(ground: Ground, case: dict[str, Any], warm: bool) -> None:
    path = await add(ground, warm=warm)
    response = await ground.get(path, ("Range", case["field"]))
    assert response.complete
    assert response.status in case.get("status", [206])
    if response.status == 206:
        assert_covers(spans_of(response, BODY), [(start, stop) for start, stop in case["spans"]])
    elif response.status == 416:
        assert response.fields.value("Content-Range") == f"bytes */{SIZE}"
    else:
        assert response.body == BODY
    if warm:
        assert ground.origin.body_bytes(path) == SIZE


@warmth
@pytest.mark.parametrize("case", cases("ranges.toml", "if_range"))
async def test_if_range_decides_between_part_and_whole(ground: Ground, case: dict[str, Any], warm: bool) -> None:
    path = await add(ground, warm=warm)
    response = await ground.get(path, ("Range", "bytes=10-19"), ("If-Range", case["value"]))
    assert (response.status, response.complete) == (case["status"], True)
    assert response.body == (BODY[10:20] if case["status"] == 206 else BODY)
    assert ("Content-Range" in response.fields) == (case["status"] == 206)


async def test_a_cold_byte_costs_at_most_one_piece(ground: Ground) -> None:
    for position in (0, 1_500_000, SIZE - 1):
        path = await add(ground, warm=False)
        response = await ground.get(path, ("Range", f"bytes={position}-{position}"))
        assert response.body == BODY[position : position + 1]
        await ground.origin.wait_done(path)
        assert 1 <= ground.origin.body_bytes(path) <= PIECE


async def test_a_cold_suffix_costs_at_most_the_pieces_it_lies_in(ground: Ground) -> None:
    path = await add(ground, warm=False)
    assert (await ground.get(path, ("Range", "bytes=-5"))).body == BODY[-5:]
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) <= PIECE


async def test_pieces_once_fetched_are_not_fetched_again(ground: Ground) -> None:
    path = await add(ground, warm=False)
    for start, stop in [(0, 2), (0, PIECE), (PIECE + 7, PIECE + 9), (PIECE, 2 * PIECE), (2 * PIECE, SIZE), (0, SIZE)]:
        response = await ground.get(path, ("Range", f"bytes={start}-{stop - 1}"))
        assert (response.status, response.body) == (206, BODY[start:stop])
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) == SIZE
    assert was_hit(await ground.get(path))


async def test_windows_clients_pieces_on_four_connections_cost_the_object_once(ground: Ground) -> None:
    body = blob(22, 8 * PIECE + 12_345)
    path = ground.add(body, headers=())
    probe = await ground.get_as_client(path, ("Range", "bytes=0-1"), host=DO_HOST)
    assert (probe.body, content_range(probe.fields)[2]) == (body[:2], len(body))
    for first in range(0, 9, 4):
        for piece in range(first, min(first + 4, 9)):
            start, stop = piece * PIECE, min((piece + 1) * PIECE, len(body))
            got = await ground.get_as_client(path, ("Range", f"bytes={start}-{stop - 1}"), host=DO_HOST)
            assert (got.status, got.body) == (206, body[start:stop])
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) == len(body)


MANY = {
    "single bytes side by side": ",".join(f"{n * 2}-{n * 2}" for n in range(1000)),
    "single bytes far apart": ",".join(f"{n * 2000}-{n * 2000}" for n in range(1000)),
    "the whole object a thousand times": ",".join(["0-"] * 1000),
    "staggered halves": ",".join(f"{n}-{SIZE // 2 + n}" for n in range(1000)),
    "suffixes": ",".join(f"-{n}" for n in range(1, 1001)),
}


@warmth
@pytest.mark.parametrize("name", MANY)
async def test_a_thousand_ranges_never_cost_more_than_the_object(ground: Ground, name: str, warm: bool) -> None:
    path = await add(ground, warm=warm)
    response = await ground.get(path, ("Range", f"bytes={MANY[name]}"))
    assert response.complete
    assert response.status in (200, 206, 416)
    if response.status == 206:
        spans = spans_of(response, BODY)
        assert sum(stop - start for start, stop in spans) <= SIZE
        assert len(response.body) <= SIZE + PART_HEAD * len(spans)
    elif response.status == 200:
        assert response.body == BODY
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) <= SIZE + PROBE


@warmth
async def test_an_empty_object_has_a_length_and_no_ranges(ground: Ground, warm: bool) -> None:
    path = await add(ground, warm=warm, body=b"")
    ranged = await ground.get(path, ("Range", "bytes=0-0"))
    assert (ranged.status, ranged.fields.value("Content-Range")) == (416, "bytes */0")
    suffix = await ground.get(path, ("Range", "bytes=-1"))
    assert (suffix.status in (200, 416), suffix.complete) == (True, True)
    whole = await ground.get(path)
    assert (whole.status, whole.body, whole.fields.value("Content-Length")) == (200, b"", "0")


@warmth
@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
async def test_sizes_around_a_piece_are_served_whole_and_at_their_ends(ground: Ground, size: int, warm: bool) -> None:
    body = blob(23, size)
    path = await add(ground, warm=warm, body=body)
    last = await ground.get(path, ("Range", f"bytes={size - 1}-"))
    assert (last.status, last.body, content_range(last.fields)) == (206, body[-1:], (size - 1, size, size))
    beyond = await ground.get(path, ("Range", f"bytes={size}-"))
    assert (beyond.status, beyond.fields.value("Content-Range")) == (416, f"bytes */{size}")
    assert (await ground.get(path)).body == body


async def test_an_origin_without_range_support_is_no_reason_for_200(ground: Ground) -> None:
    path = ground.new_path()
    ground.origin.add(path, Content(BODY, headers=(*FRESH, ("Accept-Ranges", "none"))))
    ground.origin.fault(path, always=Fault(ignore_range=True))
    for start, stop in [(2_000_000, 2_000_010), (0, 5), (SIZE - 3, SIZE)]:
        response = await ground.get(path, ("Range", f"bytes={start}-{stop - 1}"), host=HOST)
        assert (response.status, response.body) == (206, BODY[start:stop])
        assert content_range(response.fields) == (start, stop, SIZE)


@warmth
async def test_parts_carry_the_content_type_of_the_object(ground: Ground, warm: bool) -> None:
    path = await add(ground, warm=warm, headers=(*FRESH, ("Content-Type", "text/x-odd; charset=x")))
    response = await ground.get(path, ("Range", "bytes=0-9,2000000-2000009"))
    assert response.status == 206
    assert {part.fields.value("Content-Type") for part in parts_of(response)} == {"text/x-odd; charset=x"}


async def test_a_number_beyond_all_sizes_is_the_same_each_time(ground: Ground) -> None:
    path = ground.add(b"0123456789")
    async with RawClient(*ground.node.content) as client:
        for last, status in (("7", 206), ("7", 206), ("9" * 33, 206), ("9" * 33, 206)):
            assert (await client.request("GET", path, [("Range", f"bytes=5-{last}")], host=HOST)).status == status


@pytest.mark.parametrize("line", ["Range: bytes=5-9", "range: bytes=5-9", "RANGE:bytes=5-9", "Range:\t bytes=5-9 "])
async def test_every_spelling_of_a_range_line_is_a_range_each_time(ground: Ground, line: str) -> None:
    """A head that was answered before may be answered without the framework, which must not lose the Range."""
    path = ground.add(b"0123456789")
    await ground.get(path)
    head = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n\r\n".encode()
    async with RawClient(*ground.node.content) as client:
        for _ in range(4):
            await client.send(head)
            response = await client.receive()
            assert (response.status, response.body) == (206, b"56789")
