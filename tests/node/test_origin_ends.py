"""A body that its origin has not ended properly is complete for no client and is not stored (RFC 9112 section 9.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import ConnectionEnded, RawClient
from tests.support.leaving import Leaving
from tests.support.node import running_node

HOST = "secure.example.test"
FRESH = "Cache-Control: max-age=600\r\n"
HALF = b"half of it" * 10_000
HEADS = {
    "close": "",
    "length": "Content-Length: 200000\r\n",
    "chunked": "Transfer-Encoding: chunked\r\n",
}
REQUESTS = {
    "host": f"GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "http 1.0": f"GET /x HTTP/1.0\r\nHost: {HOST}\r\n\r\n",
    "cache host": f"GET /x?cacheHostOrigin={HOST} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.mark.parametrize("framing", HEADS)
async def test_half_a_body_is_whole_for_no_client_also_the_second_time(framing: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    body = b"%x\r\n%b\r\n" % (len(HALF), HALF) if framing == "chunked" else HALF
    origin = Leaving(f"HTTP/1.1 200 OK\r\n{FRESH}{HEADS[framing]}\r\n".encode() + body, "fin")
    config = (
        f"[fill]\ntries = 1\n[upstream]\nca_file = '{authority.ca_file}'\n[services.s]\nhosts = ['https://{HOST}']\n"
    )
    async with (
        origin.running(authority.server_context(name=HOST)),
        running_node(tmp_path / "node", connect_to={HOST: origin.address}, config=config) as node,
    ):
        for form in (*REQUESTS, *REQUESTS):
            async with RawClient(*node.content) as client:
                await client.send(REQUESTS[form].encode())
                try:
                    answer = await client.receive()
                except ConnectionEnded:
                    continue
            assert answer.status == 502 or not answer.complete, form
