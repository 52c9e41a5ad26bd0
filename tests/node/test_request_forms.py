"""What clients send: the three forms of naming an origin, odd heads, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from cacheserver.core.http.fields import Fields
from tests.support.byteranges import content_range
from tests.support.client import RawClient, Response
from tests.support.content import Content, Fault, blob
from tests.support.ground import DO_HOST, FRESH, HOST, PIECE, Ground, was_hit
from tests.support.tables import cases

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = blob(11, 70_001)


def assert_short_text(response: Response) -> None:
    """A refusal is one short line of text that echoes nothing dangerous."""
    text = response.body.decode("ascii")
    assert 0 < len(text) < 500
    assert text.count("\n") <= 1
    assert text.rstrip("\n").isprintable()


@pytest.mark.parametrize("case", cases("request_forms.toml", "served"))
async def test_a_request_form_reaches_the_origin_byte_for_byte(ground: Ground, case: dict[str, Any]) -> None:
    path = case["upstream"].partition("?")[0]
    ground.origin.add(path, Content(BODY, headers=FRESH))
    response = await ground.node.get(case["target"], host=case.get("host"))
    assert (response.status, response.body) == (200, BODY)
    asked = ground.origin.asked(path)
    assert asked
    assert {record.target for record in asked} == {case["upstream"]}
    assert {record.fields.value("Host") for record in asked} == {HOST}


@pytest.mark.parametrize("case", cases("request_forms.toml", "refused"))
async def test_a_request_for_no_allowed_origin_is_refused(ground: Ground, case: dict[str, Any]) -> None:
    seen = len(ground.origin.requests)
    response = await ground.node.get(case["target"], host=case.get("host"))
    assert response.status == case["status"]
    assert_short_text(response)
    assert len(ground.origin.requests) == seen


async def test_the_refusal_of_a_host_says_how_to_allow_it(ground: Ground) -> None:
    response = await ground.node.get("/f?token=s3cret&cacheHostOrigin=unknown.example.org")
    text = response.body.decode()
    assert "unknown.example.org" in text
    assert "allow" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("case", cases("request_forms.toml", "malformed"))
async def test_a_malformed_head_is_refused_and_the_connection_closed(ground: Ground, case: dict[str, Any]) -> None:
    seen = len(ground.origin.requests)
    async with RawClient(*ground.node.content) as client:
        await client.send(case["head"].encode("latin-1"))
        response = await client.receive()
        assert response.status in case["status"]
        assert_short_text(response)
        assert await client.at_end()
    assert len(ground.origin.requests) == seen


@pytest.mark.parametrize("padding", [33_000, 200_000])
async def test_a_head_that_is_too_large_is_refused(ground: Ground, padding: int) -> None:
    async with RawClient(*ground.node.content) as client:
        await client.send(client.head("GET", "/f", [("X-Pad", "p" * padding)], host=HOST))
        response = await client.receive()
        assert response.status in (400, 431)
        assert await client.at_end()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
async def test_another_method_is_refused_with_allow(ground: Ground, method: str) -> None:
    path = ground.add(BODY)
    response = await ground.get(path, method=method)
    assert response.status == 405
    assert {word.strip() for word in (response.fields.value("Allow") or "").split(",")} == {"GET", "HEAD"}
    assert not ground.origin.asked(path)


@pytest.mark.parametrize("method", ["get", "FOO"])
async def test_a_method_that_nobody_knows_is_refused(ground: Ground, method: str) -> None:
    path = ground.add(BODY)
    assert (await ground.get(path, method=method)).status in (400, 405, 501)
    assert not ground.origin.asked(path)


async def test_connect_is_refused_with_allow(ground: Ground) -> None:
    response = await ground.node.get(f"{HOST}:443", method="CONNECT", host=f"{HOST}:443")
    assert response.status == 405
    assert response.fields.value("Allow") is not None


async def test_a_body_of_length_zero_is_no_body(ground: Ground) -> None:
    path = ground.add(BODY)
    assert (await ground.get(path, ("Content-Length", "0"))).body == BODY


@pytest.mark.parametrize("lines", [1, 2, 3])
async def test_the_last_range_line_wins(ground: Ground, lines: int) -> None:
    path = ground.add(BODY)
    for _ in ("cold", "warm"):
        ranges = [("Range", f"bytes={1000 * (n + 1)}-{len(BODY) - 1}") for n in range(lines)]
        response = await ground.get_as_client(path, *ranges)
        assert response.status == 206
        assert response.body == BODY[1000 * lines :]
        assert content_range(response.fields) == (1000 * lines, len(BODY), len(BODY))


async def test_head_is_get_without_the_body(ground: Ground) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("X-Origin", "kept")))
    for _ in ("cold", "warm"):
        async with RawClient(*ground.node.content) as client:
            head = await client.request("HEAD", path, host=HOST)
            get = await client.request("GET", path, host=HOST)
        assert (head.status, head.fields.value("Content-Length")) == (200, str(len(BODY)))
        assert get.body == BODY
        for name in ("ETag", "Content-Type", "X-Origin", "Accept-Ranges"):
            assert head.fields.value(name) == get.fields.value(name)


async def test_head_ignores_range(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    head = await ground.get(path, ("Range", "bytes=0-9"), method="HEAD")
    assert (head.status, head.fields.value("Content-Length")) == (200, str(len(BODY)))


async def test_tokens_stay_out_of_the_key_of_signed_urls(ground: Ground) -> None:
    path = ground.add(BODY, headers=())
    first = f"{path}?P1=1700000000&P2=404&P3=2&P4=abc%2bdef%3d%3d"
    second = f"{path}?P1=1800000000&P2=404&P3=2&P4=xyz%2Fuvw%3D%3D"
    assert (await ground.get_as_client(first, host=DO_HOST)).body == BODY
    warm = await ground.get_as_client(second, host=DO_HOST)
    assert warm.body == BODY
    assert was_hit(warm)
    assert {record.target for record in ground.origin.asked(path)} == {first}
    assert ground.origin.body_bytes(path) == len(BODY)


async def test_the_query_is_part_of_an_own_services_key(ground: Ground) -> None:
    path = ground.new_path()
    for number in (1, 2):
        ground.origin.add(f"{path}?v={number}", Content(blob(number, 5000), headers=FRESH))
    for _ in ("cold", "warm"):
        for number in (1, 2):
            assert (await ground.get(f"{path}?v={number}")).body == blob(number, 5000)


@pytest.mark.parametrize(
    "hosts",
    [
        ("9.tlu.dl.delivery.mp.microsoft.com", "2.tlu.dl.delivery.mp.microsoft.com"),
        (
            "download.windowsupdate.com",
            "au.download.windowsupdate.com",
            "b1.download.windowsupdate.com",
            "au.b1.download.windowsupdate.com",
        ),
    ],
)
async def test_shards_of_a_host_share_one_entry(ground: Ground, hosts: tuple[str, ...]) -> None:
    path = ground.add(BODY, headers=())
    for host in hosts:
        assert (await ground.get_as_client(path, host=host)).body == BODY
    assert ground.origin.body_bytes(path) == len(BODY)
    assert {record.fields.value("Host") for record in ground.origin.asked(path)} == {hosts[0]}


async def test_doubled_slashes_share_one_entry_but_go_upstream_as_they_came(ground: Ground) -> None:
    path = ground.new_path("a/b")
    doubled = "/" + path.replace("/a/", "//a//")
    for each in (path, doubled):
        ground.origin.add(each, Content(BODY))
    assert (await ground.get_as_client(doubled, host=DO_HOST)).body == BODY
    assert (await ground.get_as_client(path, host=DO_HOST)).body == BODY
    assert {record.target for record in ground.origin.requests if record.path in (path, doubled)} == {doubled}


async def test_two_own_hosts_do_not_share_entries(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    await ground.get(path, host="mirror.example.test")
    assert {record.fields.value("Host") for record in ground.origin.asked(path)} == {HOST, "mirror.example.test"}


ODD_FRAMINGS = {
    "plain": Fault(),
    "close-delimited": Fault(framing="close"),
    "chunked": Fault(framing="chunked"),
    "lower-case names": Fault(spelling="lower"),
    "upper-case names": Fault(spelling="upper"),
}


@pytest.mark.parametrize("framing", ODD_FRAMINGS)
@pytest.mark.parametrize("asked", [(), (("Range", "bytes=10-"),)], ids=["whole", "range"])
async def test_a_client_gets_length_and_spelling_whatever_the_origin_sends(
    ground: Ground, framing: str, asked: tuple[tuple[str, str], ...]
) -> None:
    path = ground.add(BODY, headers=())
    ground.origin.fault(path, always=ODD_FRAMINGS[framing])
    start = 10 if asked else 0
    for _ in ("cold", "warm"):
        response = await ground.get_as_client(path, *asked, host=DO_HOST)
        assert (response.status, response.framing, response.complete) == (206 if asked else 200, "length", True)
        assert response.body == BODY[start:]
        assert response.spelled("Content-Length")
        assert response.spelled("Content-Range") == bool(asked)
        assert "Content-Encoding" not in response.fields
        assert "Server" not in response.fields or "/" not in (response.fields.value("Server") or "")


async def test_pipelined_requests_are_answered_in_order(ground: Ground) -> None:
    paths = [ground.add(blob(seed, 10_000)) for seed in range(5)]
    for _ in ("cold", "warm"):
        async with RawClient(*ground.node.content) as client:
            await client.send(b"".join(client.head("GET", path, host=HOST) for path in paths))
            for seed in range(5):
                assert (await client.receive()).body == blob(seed, 10_000)


async def test_a_head_in_small_parts_is_served(ground: Ground) -> None:
    path = ground.add(BODY)
    for _ in ("cold", "warm"):
        async with RawClient(*ground.node.content) as client:
            head = client.head("GET", path, host=HOST)
            for position in range(0, len(head), 7):
                await client.send(head[position : position + 7])
            assert (await client.receive()).body == BODY


async def test_one_connection_serves_many_answers_of_all_kinds(ground: Ground) -> None:
    body = blob(12, PIECE + 500)
    path = ground.add(body)
    async with RawClient(*ground.node.content) as client:
        for _ in range(3):
            assert (await client.request("GET", path, host=HOST)).body == body
            assert (await client.request("GET", path, [("Range", "bytes=-500")], host=HOST)).body == body[-500:]
            assert (await client.request("GET", path, [("Range", f"bytes={len(body)}-")], host=HOST)).status == 416
            assert (await client.request("HEAD", path, host=HOST)).status == 200
            assert (await client.request("GET", "/x", host="unknown.example.org")).status == 403


async def test_http_1_0_is_served_and_closed(ground: Ground) -> None:
    path = ground.add(BODY)
    async with RawClient(*ground.node.content) as client:
        await client.send(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        response = await client.receive()
        assert (response.status, response.framing, response.body) == (200, "length", BODY)
        assert await client.at_end()


async def test_connection_close_is_obeyed(ground: Ground) -> None:
    path = ground.add(BODY)
    async with RawClient(*ground.node.content) as client:
        response = await client.request("GET", path, [("Connection", "close")], host=HOST)
        assert response.body == BODY
        assert await client.at_end()


async def test_only_end_to_end_fields_of_an_own_service_go_upstream(ground: Ground) -> None:
    path = ground.add(BODY)
    sent = (
        ("X-Custom", "1"),
        ("X-Hop", "2"),
        ("Connection", "X-Hop"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("User-Agent", "test"),
    )
    await ground.get(path, *sent)
    fields = ground.origin.asked(path)[0].fields
    assert (fields.value("X-Custom"), fields.value("User-Agent")) == ("1", "test")
    for name in ("X-Hop", "Keep-Alive", "TE", "Proxy-Authorization", "Transfer-Encoding"):
        assert name not in fields


async def test_a_shipped_service_gets_only_the_fields_its_rule_names(ground: Ground) -> None:
    path = ground.add(BODY, headers=())
    await ground.get_as_client(path, ("X-Custom", "1"), ("Cookie", "a=b"), host=DO_HOST)
    fields: Fields = ground.origin.asked(path)[0].fields
    assert "X-Custom" not in fields
    assert "Cookie" not in fields
