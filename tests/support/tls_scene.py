"""A node with TLS listeners in front of an origin, and verified clients of it.

Owns the wiring and the pair of files that the node reads. Must not decide what is right: that is what the tests do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.certificates import NAME, Issued, Pki, cert_pem, key_pem, write_pair
from tests.support.content import Content, blob
from tests.support.flow import PATIENCE_S
from tests.support.ground import FRESH, HOST
from tests.support.node import Address, Node, running_node
from tests.support.origin import Origin

PKI = Pki()
BODY = blob(7, 20_000)
NAMES = (NAME, "127.0.0.1", "::1")
CONFIG = """
[server]
listen_tls = ["127.0.0.1:0", "[::1]:0"]
[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
names = ["cache.example.test"]
check_s = 0.05
"""


class TlsScene:
    """A node with TLS listeners on both families in front of an origin that holds ``BODY`` at /b."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        (listening,) = [line for line in node.log if line.get("event") == "listening"]
        (self.address, self.v6) = (_address(text) for text in listening["tls"])

    def client(self) -> ssl.SSLContext:
        """A client that trusts the root only and offers h2 first."""
        context = ssl.create_default_context(cadata=cert_pem(PKI.root).decode())
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    async def connect(self, context: ssl.SSLContext | None = None, *, address: Address | None = None) -> TlsExchange:
        """A verified connection."""
        host, port = address or self.address
        reader, writer = await asyncio.open_connection(host, port, ssl=context or self.client(), server_hostname=NAME)
        return TlsExchange(reader, writer)

    async def loaded(self, issued: Issued, *, since: int) -> None:
        """Wait until the node says that it has taken this certificate."""
        end = issued.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        await self.node.wait_log(
            lambda line: line.get("event") == "certificate_loaded" and line.get("not_after") == end, since=since
        )


class TlsExchange:
    """One connection over TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def tls(self) -> ssl.SSLObject:
        """The connection's TLS."""
        found = self._writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        return found

    @property
    def serial(self) -> int:
        """Serial number of the node's certificate."""
        certificate = self.tls.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)

    async def get(self) -> bytes:
        """The body of one answer, on this connection."""
        self._writer.write(f"GET /b HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert f"Content-Length: {len(BODY)}\r\n".encode() in head
            return await self._reader.readexactly(len(BODY))

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        await self._writer.wait_closed()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def issue(*, days_left: float) -> Issued:
    """A certificate for the node that ends then."""
    return PKI.issue(*NAMES, days=(-1, days_left))


def install(folder: Path, issued: Issued) -> None:
    """Put the pair in place, the certificate first."""
    write_pair(folder, issued.chain_pem, key_pem(issued.key))


@asynccontextmanager
async def running(directory: Path, first: Issued) -> AsyncIterator[TlsScene]:
    """A node that starts with this pair."""
    folder = directory / "tls"
    folder.mkdir()
    install(folder, first)
    async with Origin() as origin:
        origin.add("/b", Content(BODY, headers=FRESH))
        async with running_node(
            directory, allow=(f"http://{HOST}",), connect_to={HOST: origin.address}, config=CONFIG
        ) as node:
            yield TlsScene(node, folder)
