"""Asking one source: the node's client of origins, without its address policy and its allow-list.

Owns: the time-outs of the tool and where a redirect may lead. Must not decide what to ask or what a fault costs; that
is ``workflow`` and ``simple``. Addresses are not vetted: the tool goes where its user sends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cacheserver.core.cache.redirects import follow
from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.fetch.sources import parse_url
from cacheserver.outgoing.resolver import Resolver
from cacheserver.system.clock import SystemClock
from cacheserver.upstream.client import Answer, UpstreamClient
from cacheserver.upstream.options import UpstreamOptions

_STALL_TIMEOUT_S = 20.0
_SERVICE = Service(name="fetch", hosts=())


@asynccontextmanager
async def open_client(
    *, connect_to: Mapping[str, tuple[str, int]], connections: int, user_agent: str
) -> AsyncIterator[UpstreamClient]:
    """One pool of connections, at most ``connections`` to a host."""
    resolver = Resolver(connect_to=connect_to, ttl_s=10.0)
    client = UpstreamClient(
        options=UpstreamOptions(
            connect_timeout_s=5.0,
            head_timeout_s=_STALL_TIMEOUT_S,
            stall_timeout_s=_STALL_TIMEOUT_S,
            redirects=5,
            connections_per_host=connections,
            idle_s=15.0,
        ),
        resolver=resolver,
        redirect=redirected,
        clock=SystemClock(),
        count=lambda *_facts: None,
        user_agent=user_agent,
    )
    try:
        yield client
    finally:
        await client.close()
        await resolver.close()


@asynccontextmanager
async def get(client: UpstreamClient, source: Source, fields: Mapping[str, str] | None = None) -> AsyncIterator[Answer]:
    """GET ``source``, following redirects; the body is open inside the block. Raises UpstreamError."""
    answer = await client.open(request_for(source, fields))
    try:
        yield answer
    finally:
        answer.close()


def request_for(source: Source, fields: Mapping[str, str] | None = None) -> UpstreamRequest:
    """The request for ``source``."""
    lines = Fields((fields or {}).items())
    return UpstreamRequest("GET", source, lines, _SERVICE)


def redirected(request: UpstreamRequest, location: str) -> UpstreamRequest | None:
    """The request for a redirect's target; None when it is malformed or leaves https for http."""
    found = follow(request, location, parse_url)
    return None if found is not None and (request.place.scheme, found.place.scheme) == ("https", "http") else found
