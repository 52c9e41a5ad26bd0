"""An answer is authentic when TLS carried it on every hop, and no other cache node speaks for the origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.cache.redirects import follow
from cacheserver.core.cache.sources import NODE, ORIGIN, Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.system.clock import SystemClock
from cacheserver.upstream.client import UpstreamClient
from cacheserver.upstream.options import UpstreamOptions
from cacheserver.upstream.resolver import VettedResolver
from tests.support.certificates import Authority
from tests.support.content import Content, Fault
from tests.support.origin import Origin

SERVICE = Service(name="own", hosts=("localhost",), own=True)


def place(scheme: str, path: str, address: str, kind: str = ORIGIN) -> Source:
    """``path`` at an origin."""
    return Source(scheme, "localhost", int(address.rpartition(":")[2]), path, kind)


@pytest.mark.parametrize(
    ("hops", "kind", "secure"),
    [
        (["https"], ORIGIN, True),
        (["http"], ORIGIN, False),
        (["https", "https"], ORIGIN, True),
        (["https", "http"], ORIGIN, False),
        (["http", "https"], ORIGIN, False),
        (["https", "http", "https"], ORIGIN, False),
        (["https"], NODE, False),
    ],
)
async def test_an_answer_is_as_secure_as_its_weakest_hop(
    tmp_path: Path, hops: list[str], kind: str, secure: bool
) -> None:
    authority = Authority(tmp_path)
    async with Origin() as plain, Origin(tls=authority.server_context()) as tls:
        origins = {"http": plain, "https": tls}
        places = [place(scheme, f"/{number}", origins[scheme].address, kind) for number, scheme in enumerate(hops)]
        for here, there in zip(places, [*places[1:], None], strict=True):
            origin = origins[here.scheme]
            origin.add(here.path_and_query, Content(b"body"))
            if there is not None:
                origin.fault(here.path_and_query, always=Fault.redirecting(there.url))
        resolver = VettedResolver(
            connect_to={f"localhost:{each.port}": ("127.0.0.1", each.port) for each in places},
            allowed_for=lambda _host: (),
        )
        client = UpstreamClient(
            options=UpstreamOptions(ca_file=authority.ca_file),
            resolver=resolver,
            redirect=lambda request, location: follow(
                request, location, lambda url: next(each for each in places if each.url == url)
            ),
            clock=SystemClock(),
            count=lambda *_facts: None,
            user_agent="test/1",
        )
        try:
            answer = await client.open(UpstreamRequest("GET", places[0], Fields(), SERVICE))
            assert (answer.status, answer.secure) == (200, secure)
            answer.close()
        finally:
            await client.close()
            await resolver.close()
