"""Connections that stay open between requests, and a change of the address policy: it holds for the next request."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.core.cache.sources import ORIGIN, Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import AddressRefused
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.addresses import Network, parse_network
from cacheserver.core.request.service import Service
from cacheserver.system.clock import SystemClock
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.upstream.resolver import VettedResolver
from tests.support.content import Content, blob
from tests.support.origin import Origin

BODY = blob(6, 3_000_000)
SERVICE = Service(name="own", hosts=("cdn.example.test",), own=True)


async def lookup(_host: str) -> tuple[str, ...]:
    return ("127.0.0.1",)


LOOPBACK = (parse_network("127.0.0.0/8"),)


def client_over(resolver: VettedResolver) -> UpstreamClient:
    return UpstreamClient(
        options=UpstreamOptions(),
        resolver=resolver,
        redirect=lambda _request, _location: None,
        clock=SystemClock(),
        count=lambda *_said: None,
        user_agent="test",
    )


def request_to(origin: Origin) -> UpstreamRequest:
    port = int(origin.address.rpartition(":")[2])
    return UpstreamRequest("GET", Source("http", "cdn.example.test", port, "/a", ORIGIN), Fields(), SERVICE)


@pytest.mark.parametrize("under_way", [True, False])
async def test_an_address_that_is_permitted_no_more_gets_no_further_request(under_way: bool) -> None:
    permitted: list[tuple[Network, ...]] = [LOOPBACK]
    resolver = VettedResolver(connect_to={}, allowed_for=lambda _host: permitted[-1], lookup=lookup)
    client = client_over(resolver)
    async with Origin() as origin:
        origin.add("/a", Content(BODY))
        request = request_to(origin)
        for _ in range(2):
            answer = await client.open(request)
            assert await answer.read_all(len(BODY)) == BODY
            answer.close()
        assert origin.connections == 1
        answer = await client.open(request)
        got = b"" if under_way else await answer.read_all(len(BODY))
        if not under_way:
            answer.close()
        permitted.append(())
        client.reconnect()
        if under_way:
            got = await answer.read_all(len(BODY))
            answer.close()
        assert got == BODY, "an answer under way comes to its end"
        with pytest.raises(AddressRefused):
            await client.open(request)
        assert len(origin.requests) == 3
        await client.close()
        await resolver.close()


async def test_a_connection_that_is_being_made_meanwhile_is_not_used_again() -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(_host: str) -> tuple[str, ...]:
        asked.set()
        await go_on.wait()
        return ("127.0.0.1",)

    resolver = VettedResolver(connect_to={}, allowed_for=lambda _host: LOOPBACK, lookup=slow)
    client = client_over(resolver)
    async with Origin() as origin:
        origin.add("/a", Content(BODY))
        opening = asyncio.create_task(client.open(request_to(origin)))
        await asked.wait()
        client.reconnect()
        go_on.set()
        answer = await opening
        client.reconnect()
        assert await answer.read_all(len(BODY)) == BODY
        answer.close()
        answer = await client.open(request_to(origin))
        answer.close()
        assert origin.connections == 2
        await client.close()
        await resolver.close()
