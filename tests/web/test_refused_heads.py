"""What a client hears for a head that the parser refuses, in the parser's own words."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from cacheserver.web.connection import refused_head


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"FOO / HTTP/1.1", 501),
        (b"get / HTTP/1.1", 501),
        (b"GE / HTTP/1.0", 501),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/3.0", 505),
        (b"GET / FTP/1.1", 400),
        (b"G\x01 / HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"\x16\x03\x01", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"FOO", 400),
    ],
)
async def test_unknown_methods_and_versions_are_told_from_what_is_no_http(line: bytes, status: int) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(HttpProcessingError) as caught:
        HttpRequestParser(BaseProtocol(loop), loop, 1 << 16).feed_data(line + b"\r\nHost: a\r\n\r\n")
    assert refused_head(caught.value.message, too_long=False).own_status == status


def test_a_head_over_the_limit_is_told_as_that() -> None:
    assert refused_head("Invalid method", too_long=True).own_status == 431
