"""Origins that misbehave: a client never gets wrong bytes in complete framing, and the next one gets the right ones."""

from __future__ import annotations

import gzip

import pytest

from tests.support.client import ConnectionEnded, RawClient
from tests.support.content import Content, Fault, blob
from tests.support.ground import FRESH, HOST, PIECE, Ground, GroundOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(
    config="""
[upstream]
connect_timeout_s = 1.0
head_timeout_s = 0.4
stall_timeout_s = 0.4
[fill]
backoff_s = 0.02
spool_bytes = "4MiB"
"""
)
SIZE = PIECE + 500_000
BODY = blob(61, SIZE)
TAG = '"v1"'

FAULTS = {
    "slow but right": Fault(delay_s=0.1),
    "slower than the deadline": Fault(delay_s=0.8),
    "stall before the body": Fault(stall_after=0),
    "stall in the first piece": Fault(stall_after=300_000),
    "stall in the second piece": Fault(stall_after=PIECE + 1),
    "reset before the body": Fault(reset_after=0),
    "reset in the first piece": Fault(reset_after=300_000),
    "truncated before the body": Fault(truncate_after=0),
    "truncated in the first piece": Fault(truncate_after=300_000),
    "truncated by one byte": Fault(truncate_after=499_999),
    "close instead of an answer": Fault(close_before_head=True),
    "another range than asked": Fault(range_shift=1),
    "a range far away": Fault(range_shift=100_000_000),
    "a total below the range": Fault(range_total=10),
    "206 without Content-Range": Fault(without=("content-range",)),
    "Range ignored": Fault(ignore_range=True),
    "Range ignored, then truncated": Fault(ignore_range=True, truncate_after=300_000),
    "Range ignored, close-delimited": Fault(ignore_range=True, framing="close"),
    "Range ignored, chunked": Fault(ignore_range=True, framing="chunked"),
    "Range ignored, chunked and broken": Fault(ignore_range=True, framing="chunked-broken"),
    "Range ignored, chunked and truncated": Fault(ignore_range=True, framing="chunked", truncate_after=300_000),
    "close-delimited": Fault(framing="close"),
    "chunked": Fault(framing="chunked"),
    "chunked and broken": Fault(framing="chunked-broken"),
    "chunked and truncated": Fault(framing="chunked", truncate_after=300_000),
    "multipart instead of a range": Fault(multipart=True),
    "gzip that nobody asked for": Fault(gzip=True),
    "gzip and Range ignored": Fault(gzip=True, ignore_range=True),
    "a bomb": Fault(bomb_bytes=50_000_000, ignore_range=True),
    "names in lower case": Fault(spelling="lower"),
    "names in upper case": Fault(spelling="upper"),
    "fields that nobody knows": Fault(headers=tuple((f"X-{n}", "v" * n) for n in range(60))),
    "a thousand informational heads": Fault(informational=1000),
    "one informational head": Fault(informational=1),
    "a head of 64 KiB": Fault(pad_head_bytes=65_536),
    "a head of 1 MiB": Fault(pad_head_bytes=1 << 20),
    "Content-Length twice, the same": Fault(length_deltas=(0, 0)),
    "Content-Length twice, different": Fault(length_deltas=(0, 7)),
    "Content-Length too large": Fault(length_deltas=(9,)),
    "Content-Length and chunked": Fault(framing="chunked", headers=(("Content-Length", "7"),)),
    "a body that never ends": Fault(endless=True),
    "204": Fault(status=204),
    "206 with a text": Fault(status=206),
    "304 that nobody asked for": Fault(status=304),
    "416 for a range that exists": Fault(status=416),
    "a status of the far future": Fault(status=799),
    "not HTTP": Fault(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a status line without a status": Fault(raw=b"HTTP/1.1 OK\r\n\r\n"),
    "half a head": Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
    "zeros": Fault(raw=bytes(10_000)),
    "a field without a colon": Fault(raw=b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok"),
    "a negative length": Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "a length beyond all disks": Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab"),
    "a line break in a field": Fault(headers=(("X-Split", "a\rSet-Cookie: b=c"),)),
    "a redirect without Location": Fault(status=302),
    "a redirect to itself": Fault(status=302, headers=(("Location", "#"),)),
    "a redirect to another scheme": Fault.redirecting("file:///etc/passwd"),
    "a redirect to a host that is not allowed": Fault.redirecting("http://unknown.example.org/x"),
    "a redirect to an address": Fault.redirecting("http://127.0.0.1:22/x"),
    "a redirect that is no URL": Fault.redirecting("http://[::bad/%zz"),
}
WHOLE: tuple[tuple[str, str], ...] = ()
RANGE = (("Range", "bytes=1000-1400000"),)


async def outcome(ground: Ground, path: str, asked: tuple[tuple[str, str], ...]) -> str:
    """What a client got: ``right``, ``error`` or ``cut``; fails where it got wrong bytes."""
    truth = BODY[1000:1_400_001] if asked else BODY
    async with RawClient(*ground.node.content) as client:
        try:
            response = await client.start("GET", path, asked, host=HOST)
        except ConnectionEnded:
            return "cut"
        await client.read_body(response, 3 * SIZE)
        body = response.body
    if response.status >= 300:
        assert response.complete
        return "error"
    if response.status == 204:
        return "error"
    assert response.status == (206 if asked else 200)
    if (response.fields.value("Content-Encoding") or "identity") == "gzip":
        if response.complete:
            assert gzip.decompress(body) in (truth, BODY, bytes(50_000_000))
        return "right" if response.complete else "cut"
    assert truth.startswith(body[: len(truth)])
    if not response.complete:
        return "cut"
    assert body == truth
    return "right"


@pytest.mark.parametrize("asked", [WHOLE, RANGE], ids=["whole", "range"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_faulty_origin_never_makes_wrong_bytes(
    ground: Ground, name: str, asked: tuple[tuple[str, str], ...]
) -> None:
    path = ground.add(BODY, etag=TAG)
    ground.origin.fault(path, always=FAULTS[name])
    await outcome(ground, path, asked)
    ground.origin.heal(path)
    assert await outcome(ground, path, asked) == "right"
    assert await outcome(ground, path, WHOLE) == "right"


MUST_BE_RIGHT = (
    "slow but right",
    "Range ignored",
    "Range ignored, chunked",
    "close-delimited",
    "chunked",
    "names in lower case",
    "names in upper case",
    "fields that nobody knows",
    "one informational head",
)


@pytest.mark.parametrize("asked", [WHOLE, RANGE], ids=["whole", "range"])
@pytest.mark.parametrize("name", MUST_BE_RIGHT)
async def test_an_odd_but_right_origin_is_served_and_stored(
    ground: Ground, name: str, asked: tuple[tuple[str, str], ...]
) -> None:
    path = ground.add(BODY, etag=TAG)
    ground.origin.fault(path, always=FAULTS[name])
    assert await outcome(ground, path, asked) == "right"
    assert await outcome(ground, path, WHOLE) == "right"
    await ground.origin.wait_done(path)
    seen = len(ground.origin.asked(path))
    assert await outcome(ground, path, WHOLE) == "right"
    assert len(ground.origin.asked(path)) == seen


@pytest.mark.parametrize("asked", [WHOLE, RANGE], ids=["whole", "range"])
async def test_a_body_that_only_the_close_ends_is_served_right(
    ground: Ground, asked: tuple[tuple[str, str], ...]
) -> None:
    path = ground.add(BODY, etag=TAG)
    ground.origin.fault(path, always=FAULTS["Range ignored, close-delimited"])
    for _ in range(2):
        assert await outcome(ground, path, asked) == "right"


ONCE = ("close instead of an answer", "reset before the body", "truncated before the body", "stall before the body")


@pytest.mark.parametrize("name", ONCE)
async def test_one_failed_try_is_repeated_and_the_client_none_the_wiser(ground: Ground, name: str) -> None:
    path = ground.add(BODY, etag=TAG)
    ground.origin.fault(path, FAULTS[name])
    assert await outcome(ground, path, WHOLE) == "right"


@pytest.mark.parametrize(
    "fault", [Fault(truncate_after=300_000), Fault(stall_after=300_000)], ids=["truncated", "stalled"]
)
async def test_a_broken_fill_resumes_from_the_last_good_byte(ground: Ground, fault: Fault) -> None:
    body = BODY[:900_000]
    path = ground.add(body, etag=TAG)
    ground.origin.fault(path, fault)
    response = await ground.get(path)
    assert (response.status, response.complete, response.body == body) == (200, True, True)
    first, second = ground.origin.asked(path)
    assert (first.bytes_sent, second.bytes_sent) == (300_000, 600_000)
    assert (second.range or "").startswith("bytes=300000-")
    assert second.fields.value("If-Range") == TAG


async def test_a_fill_that_breaks_over_and_over_goes_on_from_where_it_was(ground: Ground) -> None:
    body = BODY[:900_000]
    path = ground.add(body, etag=TAG)
    ground.origin.fault(path, Fault(truncate_after=200_000), Fault(truncate_after=200_000))
    response = await ground.get(path)
    assert (response.complete, response.body == body) == (True, True)
    assert ground.origin.body_bytes(path) == len(body)


async def test_without_a_validator_broken_parts_are_not_put_together(ground: Ground) -> None:
    path = ground.add(BODY[:900_000], etag=None)
    other = blob(62, 900_000)
    ground.origin.fault(path, Fault(truncate_after=300_000), Fault(become=Content(other, etag=None, headers=FRESH)))
    response = await ground.get(path)
    if response.status != 200:
        assert response.status in (502, 504)
    elif response.complete:
        assert response.body in (other, BODY[:900_000])
    else:
        assert BODY.startswith(response.body)
    assert (await ground.get(path)).body == other


async def test_a_dripping_origin_is_given_up_and_the_next_one_asked(ground: Ground) -> None:
    path = ground.add(BODY[:5000], etag=TAG)
    ground.origin.fault(path, Fault(rate_bps=1.0))
    response = await ground.get(path)
    assert (response.status, response.complete, response.body) == (200, True, BODY[:5000])


async def test_an_origin_that_is_down_costs_a_5xx_and_nothing_that_is_cached(ground: Ground) -> None:
    cached, cold = ground.add(BODY), ground.add(BODY)
    assert (await ground.get(cached)).body == BODY
    await ground.origin.go_down()
    try:
        assert (await ground.get(cold)).status in (502, 504)
        assert (await ground.get(cached)).body == BODY
    finally:
        await ground.origin.come_up()
    assert (await ground.get(cold)).body == BODY
