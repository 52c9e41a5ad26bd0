"""A body is whole only if it ended as its framing says: over TCP, over TLS, with each way in which a peer can leave."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import pytest

from cacheserver.outgoing.session import client_context, open_session
from tests.support.certificates import Authority
from tests.support.content import blob
from tests.support.leaving import Leaving

BODY = blob(3, 100_000)
CLOSE = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + BODY
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + BODY + b"\r\n0\r\n\r\n"
UNENDED = CHUNKED.removesuffix(b"0\r\n\r\n")


async def got(server: Leaving, tls: ssl.SSLContext | None) -> bool:
    """Whether a client has its answer's body, and takes it for whole."""
    url = f"{'http' if tls is None else 'https'}://localhost:{server.address.rpartition(':')[2]}/"
    body = b""
    async with open_session(resolver=None, tls=tls) as session, session.get(url) as response:
        try:
            while data := await response.content.readany():
                body += data
                if body == BODY:
                    server.taken.set()
        except aiohttp.ClientPayloadError:
            return False
    return body == BODY


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(
    ("answer", "ending", "over_tcp", "over_tls"),
    [
        (CLOSE, "end", True, True),
        (CLOSE, "fin", True, False),
        (CLOSE, "reset", False, False),
        (LENGTH, "fin", True, True),
        (SHORT, "end", False, False),
        (CHUNKED, "fin", True, True),
        (UNENDED, "end", False, False),
    ],
    ids=["close", "close-fin", "close-reset", "length-fin", "short", "chunked-fin", "unended"],
)
async def test_a_body_is_whole_only_after_its_proper_end(
    answer: bytes, ending: str, over_tcp: bool, over_tls: bool, secure: bool, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    tls = authority.server_context() if secure else None
    async with Leaving(answer, ending).running(tls) as server:
        whole = await got(server, client_context(authority.ca_file) if secure else None)
    assert whole == (over_tls if secure else over_tcp)
