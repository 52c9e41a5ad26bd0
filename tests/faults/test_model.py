"""The model of what may be answered: it allows what is right, and knows what is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from cacheserver.core.http.fields import Fields
from tests.faults.model_truth import JOINED_S, Asked, Generation, Path, Truth
from tests.support.client import Response
from tests.support.origin import Origin

SPANS = ((10, 2000), (8000, 20_000))


@pytest.fixture
async def truth() -> Truth:
    """One path whose second generation has just come."""
    truth = Truth(Origin(), random.Random(3))
    path = Path("/a", 60_000, 1)
    truth.add(path)
    await asyncio.sleep(0.01)  # generations have times
    truth.change(path)
    return truth


def asked(truth: Truth, *, spans: Sequence[tuple[int, int]] = (), later_s: float = 0.0) -> Asked:
    return Asked("/a", "GET", (), tuple(spans), truth.paths["/a"].generations[1].since_s + later_s)


def answer(
    generation: Generation, body: bytes, status: int = 200, *lines: tuple[str, str], complete: bool = True
) -> Response:
    fields = Fields((("ETag", generation.content.entity_tag or ""), ("X-Generation", str(generation.number)), *lines))
    response = Response(status, "", fields, b"", "length", len(body), bytearray(body))
    response.ending = "complete" if complete else "eof"
    return response


def judged(truth: Truth, request: Asked, response: Response) -> str | None:
    return truth.judge(request, response, request.sent_s + 0.1)


async def test_both_generations_are_right_while_the_older_one_may_be_stored(truth: Truth) -> None:
    for generation in truth.paths["/a"].generations:
        assert judged(truth, asked(truth), answer(generation, generation.body)) is None


async def test_the_older_one_is_wrong_when_its_lifetime_is_over(truth: Truth) -> None:
    old, new = truth.paths["/a"].generations
    late = asked(truth, later_s=1 + JOINED_S + 0.1)
    assert "none of" in str(judged(truth, late, answer(old, old.body)))
    assert judged(truth, late, answer(new, new.body)) is None


async def test_the_older_one_is_wrong_after_a_confirmed_purge(truth: Truth) -> None:
    path = truth.paths["/a"]
    old, new = path.generations
    path.purges.append((new.since_s, new.since_s + 0.2))
    assert judged(truth, asked(truth, later_s=0.1), answer(old, old.body)) is None
    path.purges.append((new.since_s + 0.1, new.since_s + 0.3))
    assert "none of" in str(judged(truth, asked(truth, later_s=0.4), answer(old, old.body)))


@pytest.mark.parametrize("complete", [True, False])
async def test_one_wrong_byte_is_found_in_a_whole_and_in_a_cut_answer(truth: Truth, *, complete: bool) -> None:
    new = truth.paths["/a"].generations[1]
    body = bytearray(new.body if complete else new.body[:500])
    body[400] ^= 1
    assert "WRONG BYTES from 400" in str(judged(truth, asked(truth), answer(new, bytes(body), complete=complete)))


async def test_bytes_of_one_generation_under_the_name_of_another_are_found(truth: Truth) -> None:
    old, new = truth.paths["/a"].generations
    assert "WRONG BYTES" in str(judged(truth, asked(truth), answer(new, old.body[: len(new.body)])))


@pytest.mark.parametrize("cut", [None, 1000, 9000])
async def test_every_part_of_several_ranges_is_compared(truth: Truth, cut: int | None) -> None:
    new = truth.paths["/a"].generations[1]
    good = b""
    for start, stop in SPANS:
        line = f"Content-Range: bytes {start}-{stop - 1}/{len(new.body)}"
        good += f"\r\n--B\r\nContent-Type: text/plain\r\n{line}\r\n\r\n".encode() + new.body[start:stop]
    good += b"\r\n--B--\r\n"
    kind = ("Content-Type", "multipart/byteranges; boundary=B")
    request = asked(truth, spans=SPANS)
    body = good[:cut]
    assert judged(truth, request, answer(new, body, 206, kind, complete=cut is None)) is None
    spoilt = bytearray(body)
    spoilt[-40] ^= 1
    assert "WRONG BYTES" in str(judged(truth, request, answer(new, bytes(spoilt), 206, kind, complete=cut is None)))
