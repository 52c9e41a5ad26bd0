"""An origin whose certificate is not right is never asked for anything."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

from tests.security.figures import Figure, Row, Scene
from tests.support.certificates import Authority
from tests.support.node import running_node

BODY = b"over TLS"


class TlsOrigin:
    """Answers every request with one small body, and counts them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.requests = 0
        self._context = context

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(BODY) + BODY
        )
        await writer.drain()
        writer.close()

    async def start(self, stack: AsyncExitStack) -> str:
        """Listen until ``stack`` ends; the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        stack.callback(server.close)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def origins(room: Path) -> tuple[Authority, dict[str, TlsOrigin]]:
    """The trusted authority, and origins by host name; only ``good`` is right."""
    authority = Authority(room)
    (room / "other").mkdir()
    stranger = Authority(room / "other")
    contexts = {
        "good": authority.server_context(name="good.example.test"),
        "expired": authority.server_context(name="expired.example.test", days=(-10, -1)),
        "early": authority.server_context(name="early.example.test", days=(5, 10)),
        "wrong-name": authority.server_context(name="other.example.test"),
        "sub-name": authority.server_context(name="x.sub-name.example.test"),
        "address": authority.server_context(name="127.0.0.1"),
        "self-signed": authority.server_context(name="self-signed.example.test", self_signed=True),
        "unknown-authority": stranger.server_context(name="unknown-authority.example.test"),
    }
    return authority, {f"{name}.example.test": TlsOrigin(context) for name, context in contexts.items()}


async def measure(scene: Scene) -> Figure:
    """One node that trusts one authority, and an origin for each fault."""
    authority, made = origins(scene.room("tls"))
    faults, refused = [], 0
    async with AsyncExitStack() as stack:
        connect_to = {host: await origin.start(stack) for host, origin in made.items()}
        node = await stack.enter_async_context(
            running_node(
                scene.room("node"),
                allow=[f"https://{host}" for host in made],
                connect_to=connect_to,
                config=f'[upstream]\nca_file = "{authority.ca_file}"\n[fill]\ntries = 1\n',
            )
        )
        for host, origin in made.items():
            for path in ("/a", "/b?cacheHostOrigin=" + host):
                answer = await node.get(path, host=host)
                good = host.startswith("good")
                if good != (answer.status == 200 and answer.body == BODY) or (not good and answer.status != 502):
                    faults.append(f"{host}{path}: {answer.status}")
                refused += not good and answer.status == 502
            if (origin.requests > 0) != host.startswith("good"):
                faults.append(f"{host} was asked {origin.requests} times")
    return Figure(
        f"{refused} requests to {len(made) - 1} bad origins refused, 0 sent to them; 1 good origin served", faults
    )


ROW = Row("TLS: expired, early, wrong-name, self-signed, unknown upstream", "refused always, nothing sent", measure)


async def test_an_origin_with_a_bad_certificate_is_never_asked(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
