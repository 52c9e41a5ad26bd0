"""Cutting a stream of bytes behind every head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.web.aiohttp_adapter import HeadCutter

HEADS = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1\r\n", b"Content-Length: 9\r\n", b"A: 1\r\n", b"\r\n", b"\r", b"\n", b"x", b"\r\n\r\n"]
    ),
    max_size=30,
)


@given(parts=HEADS, size=st.integers(1, 40))
def test_the_cuts_are_those_of_the_whole_stream_however_it_comes(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    whole, pieces = HeadCutter(1 << 20), HeadCutter(1 << 20)
    ends = set()
    at, came = 0, b""
    for start in range(0, len(stream), size):
        for part in pieces.cut(stream[start : start + size]):
            came += part
            ends.add(len(came))
    expected = list(whole.cut(stream))
    assert came == b"".join(expected)
    for part in expected:
        at += len(part)
        assert at in ends
        assert part.find(b"\r\n\r\n") in (-1, len(part) - 4)
    assert (whole.between, whole.unfinished_bytes) == (pieces.between, pieces.unfinished_bytes)


@given(parts=HEADS)
def test_only_empty_lines_before_a_head_are_dropped(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    cut = list(HeadCutter(1 << 20).cut(stream))
    assert not any(part[:1] in b"\r\n" for part in cut)
    assert b"".join(cut).translate(None, b"\r\n") == stream.translate(None, b"\r\n")


def test_a_flood_of_empty_lines_makes_no_part_and_is_too_long() -> None:
    cutter = HeadCutter(1000)
    assert list(cutter.cut(b"\r\n" * 500)) == []
    assert not cutter.too_long
    assert list(cutter.cut(b"\r\n")) == []
    assert cutter.too_long


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_the_head_as_a_whole_has_the_limit_and_heads_before_it_are_kept(size: int) -> None:
    cutter = HeadCutter(100)
    stream = b"GET / HTTP/1.1\r\n\r\n" * 9 + b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 20 + b"\r\n"
    cut = b"".join(b"".join(cutter.cut(stream[at : at + size])) for at in range(0, len(stream), size))
    assert cut.startswith(b"GET / HTTP/1.1\r\n\r\n" * 9)
    assert cutter.too_long
    assert not list(cutter.cut(b"GET / HTTP/1.1\r\n\r\n"))


RAW, ESCAPED = "GET /ä?b=ö HTTP/1.1\r\n".encode(), b"GET /%C3%A4?b=%C3%B6 HTTP/1.1\r\n"
REST = b"Host: a\r\nX: \xc3\xa4\r\n\r\n"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_request_line_has_the_escapes_that_the_client_left_out_and_other_lines_stay(size: int) -> None:
    cutter = HeadCutter(1000)
    stream = RAW + REST
    cut = b"".join(b"".join(cutter.cut(stream[at : at + size])) for at in range(0, len(stream), size))
    assert cut == ESCAPED + REST


def test_every_head_has_its_escapes_as_long_as_none_has_a_body() -> None:
    assert b"".join(HeadCutter(1000).cut((RAW + REST) * 3)) == (ESCAPED + REST) * 3


@pytest.mark.parametrize("field", [b"Content-Length: 9", b"content-LENGTH:0", b"Transfer-Encoding: chunked"])
def test_behind_a_head_that_announces_a_body_no_byte_changes(field: bytes) -> None:
    first = RAW + field + b"\r\n\r\n"
    assert b"".join(HeadCutter(1000).cut(first + (RAW + REST) * 2)) == first.replace(RAW, ESCAPED) + (RAW + REST) * 2


def test_behind_a_head_that_came_in_parts_no_byte_changes() -> None:
    cutter = HeadCutter(1000)
    first = b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    cut = b"".join(b"".join(cutter.cut(part)) for part in (first[:24], first[24:], RAW + REST))
    assert cut == first + RAW + REST


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_what_is_no_utf_8_is_not_read(raw: bytes, size: int) -> None:
    cutter = HeadCutter(1000)
    stream = b"GET /%s HTTP/1.1\r\n" % raw + REST
    cut = b"".join(b"".join(cutter.cut(stream[at : at + size])) for at in range(0, len(stream), size))
    assert b"\0" in cut.partition(b"Host")[0]
