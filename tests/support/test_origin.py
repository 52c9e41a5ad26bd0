"""The test origin and the raw client tell the truth about each other: the other tests rest on that."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.support.byteranges import parts_of
from tests.support.client import ConnectionEnded, ProtocolError, RawClient, Response, fetch
from tests.support.content import Content, Fault, blob
from tests.support.origin import Origin

BODY = blob(1, 300_000)
TAG = '"v1"'
DATE = "Tue, 01 Jul 2025 10:00:00 GMT"
EARLIER = "Tue, 01 Jul 2025 09:59:59 GMT"
CONTENT = Content(BODY, etag=TAG, last_modified=DATE)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        origin.add("/f", CONTENT)
        yield origin


async def ask(origin: Origin, *headers: tuple[str, str], method: str = "GET", target: str = "/f") -> Response:
    return await fetch(("127.0.0.1", origin.port), target, headers, method=method)


def test_blob_is_the_same_for_one_seed_and_another_for_the_next() -> None:
    assert blob(7, 1000) == blob(7, 2000)[:1000]
    assert blob(7, 1000) != blob(8, 1000)


@pytest.mark.parametrize(
    ("headers", "status", "start", "stop"),
    [
        ((), 200, 0, 300_000),
        ((("Range", "bytes=0-0"),), 206, 0, 1),
        ((("Range", "bytes=5-"),), 206, 5, 300_000),
        ((("Range", "bytes=-5"),), 206, 299_995, 300_000),
        ((("Range", "bytes=299999-400000"),), 206, 299_999, 300_000),
        ((("Range", "bytes=0-1,4-5"),), 200, 0, 300_000),
        ((("Range", "lines=0-1"),), 200, 0, 300_000),
        ((("Range", "bytes=0-1"), ("If-Range", TAG)), 206, 0, 2),
        ((("Range", "bytes=0-1"), ("If-Range", DATE)), 206, 0, 2),
        ((("Range", "bytes=0-1"), ("If-Range", '"other"')), 200, 0, 300_000),
        ((("Range", "bytes=300000-"),), 416, 0, 0),
        ((("If-None-Match", f'"x", W/{TAG}'),), 304, 0, 0),
        ((("If-None-Match", '"x"'), ("If-Modified-Since", DATE)), 200, 0, 300_000),
        ((("If-Modified-Since", DATE),), 304, 0, 0),
        ((("If-Modified-Since", EARLIER),), 200, 0, 300_000),
        ((("If-Match", TAG),), 200, 0, 300_000),
        ((("If-Match", '"x"'),), 412, 0, 0),
        ((("If-Unmodified-Since", EARLIER),), 412, 0, 0),
    ],
)
async def test_a_right_answer_follows_the_rfc(
    origin: Origin, headers: tuple[tuple[str, str], ...], status: int, start: int, stop: int
) -> None:
    response = await ask(origin, *headers)
    assert (response.status, response.body, response.complete) == (status, BODY[start:stop], True)
    if status == 206:
        assert response.fields.value("Content-Range") == f"bytes {start}-{stop - 1}/300000"
    if status == 416:
        assert response.fields.value("Content-Range") == "bytes */300000"


async def test_one_connection_serves_get_head_and_a_missing_path(origin: Origin) -> None:
    async with RawClient("127.0.0.1", origin.port) as client:
        head = await client.request("HEAD", "/f?token=1")
        assert (head.status, head.fields.value("Content-Length"), head.body) == (200, "300000", b"")
        assert (await client.request("GET", "/nothing")).status == 404
        assert (await client.request("GET", "/f")).body == BODY
    assert origin.connections == 1
    assert [record.path for record in origin.requests] == ["/f", "/nothing", "/f"]
    assert origin.body_bytes("/f") == 300_000


async def test_a_path_with_its_query_is_another_path(origin: Origin) -> None:
    origin.add("/f?a=1", Content(b"one"))
    assert (await ask(origin, target="/f?a=1")).body == b"one"
    assert (await ask(origin, target="/f?a=2")).body == BODY


FAULTY = {
    "reset": (Fault(reset_after=1000), "reset", 1000),
    "truncate": (Fault(truncate_after=1000), "eof", 1000),
    "chunked broken": (Fault(framing="chunked-broken"), "broken", 300_000),
    "length too long": (Fault(length_deltas=(5,)), "eof", 300_000),
}


@pytest.mark.parametrize("name", FAULTY)
async def test_a_broken_body_is_seen_as_broken(origin: Origin, name: str) -> None:
    fault, ending, size = FAULTY[name]
    origin.fault("/f", fault)
    response = await ask(origin)
    assert (response.ending, response.complete) == (ending, False)
    assert response.body == BODY[:size]
    assert (await ask(origin)).body == BODY


@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_a_body_without_length_arrives_whole(origin: Origin, framing: str) -> None:
    origin.fault("/f", Fault(framing="close" if framing == "close" else "chunked"))
    response = await ask(origin)
    assert (response.framing, response.complete, response.body) == (framing, True, BODY)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(length_deltas=(0, 0)),
        Fault(length_deltas=(0, 7)),
        Fault(raw=b"HTTP/1.1 abc\r\n\r\n"),
        Fault(raw=b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_the_client_refuses_what_is_not_http(origin: Origin, fault: Fault) -> None:
    origin.fault("/f", fault)
    with pytest.raises(ProtocolError):
        await ask(origin)


async def test_faults_in_head_and_payload_come_out_as_scheduled(origin: Origin) -> None:
    asked = ("Range", "bytes=10-19")
    origin.fault(
        "/f",
        Fault(range_shift=1, range_total=99),
        Fault(flip_at=12),
        Fault(ignore_range=True, spelling="lower", informational=3, pad_head_bytes=65_536),
        Fault(multipart=True),
        Fault(gzip=True),
        Fault.refusing(503, ("Retry-After", "7")),
        Fault.redirecting("/g"),
        Fault(bomb_bytes=1_000_000),
    )
    shifted, flipped, ignored, multipart, packed, refused, redirected, bomb, right = [
        await ask(origin, asked) for _ in range(9)
    ]
    assert shifted.fields.value("Content-Range") == "bytes 11-20/99"
    assert flipped.body == BODY[10:12] + bytes([BODY[12] ^ 0xFF]) + BODY[13:20]
    assert (ignored.status, ignored.informational, len(ignored.raw_head) > 65_536) == (200, [103] * 3, True)
    assert ignored.spelled("content-length")
    assert not ignored.spelled("Content-Length")
    assert [(part.start, part.stop, part.body) for part in parts_of(multipart)] == [(10, 20, BODY[10:20])]
    assert gzip.decompress(packed.body) == BODY[10:20]
    assert (refused.status, refused.fields.value("Retry-After")) == (503, "7")
    assert (redirected.status, redirected.fields.value("Location")) == (302, "/g")
    assert len(bomb.body) < 5_000
    assert (right.status, right.body) == (206, BODY[10:20])


async def test_a_fault_can_change_the_content_for_good(origin: Origin) -> None:
    origin.fault("/f", Fault(become=Content(b"new")))
    assert [(await ask(origin)).body for _ in range(2)] == [b"new", b"new"]


async def test_close_and_stall_before_the_body_leave_the_client_with_nothing(origin: Origin) -> None:
    origin.fault("/f", Fault(close_before_head=True), Fault(stall_after=0))
    with pytest.raises(ConnectionEnded):
        await ask(origin)
    async with RawClient("127.0.0.1", origin.port, timeout_s=0.05) as client:
        response = await client.start("GET", "/f")
        with pytest.raises(TimeoutError):
            await client.finish(response)
    await origin.wait_done("/f")


async def test_gates_hold_the_head_and_then_the_byte_they_name(origin: Origin) -> None:
    head, body = origin.gate("/f"), origin.gate("/f", at=100_000)
    async with RawClient("127.0.0.1", origin.port) as client:
        answer = asyncio.create_task(client.start("GET", "/f"))
        await head.reached()
        assert not answer.done()
        head.open()
        response = await answer
        assert await client.read_body(response, 100_000) == BODY[:100_000]
        await body.reached()
        assert origin.body_bytes("/f") == 100_000
        body.open()
        assert (await client.finish(response)).body == BODY
    assert origin.max_concurrent == 1


async def test_a_client_that_leaves_frees_a_held_answer(origin: Origin) -> None:
    gate = origin.gate("/f", at=0)
    async with RawClient("127.0.0.1", origin.port) as client:
        await client.start("GET", "/f")
        await gate.reached()
        client.abort()
    await origin.wait_done("/f")
    assert origin.body_bytes("/f") == 0


async def test_the_rate_in_all_is_shared_by_the_connections() -> None:
    async with Origin(rate_bps=1_000_000) as origin:
        origin.add("/r", Content(blob(2, 50_000)))
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        await asyncio.gather(*(ask(origin, target="/r") for _ in range(4)))
        assert 0.18 <= loop.time() - start_s <= 3.0


async def test_an_origin_that_went_down_comes_up_on_the_same_port(origin: Origin) -> None:
    port = origin.port
    await origin.go_down()
    with pytest.raises(OSError):
        await ask(origin)
    await origin.come_up()
    assert origin.port == port
    assert (await ask(origin)).body == BODY


async def test_pipelined_requests_are_answered_in_order(origin: Origin) -> None:
    async with RawClient("127.0.0.1", origin.port) as client:
        await client.send(client.head("GET", "/f", [("Range", "bytes=0-3")]) + client.head("GET", "/f"))
        assert (await client.receive()).body == BODY[:4]
        assert (await client.receive()).body == BODY
