"""The resolver without an address policy; ``tests/upstream`` tests lifetimes and sharing through the vetted one."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from cacheserver.outgoing.resolver import Resolver, detached_lookup


class Lookups:
    """Fails for every host but one, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now_s = 0.0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host != "a.example":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ("127.0.0.1", "::1")

    def resolver(self, failure_ttl_s: float) -> Resolver:
        return Resolver(connect_to={}, failure_ttl_s=failure_ttl_s, monotonic_s=lambda: self.now_s, lookup=self)


async def test_every_address_passes_literals_too() -> None:
    resolver = Lookups().resolver(0.0)
    assert [result["host"] for result in await resolver.resolve("a.example", 80)] == ["127.0.0.1", "::1"]
    resolver.vet_literal("127.0.0.1", 80)


@pytest.mark.parametrize(("failure_ttl_s", "queries"), [(0.0, 2), (10.0, 1)])
async def test_a_failure_is_kept_for_its_lifetime(failure_ttl_s: float, queries: int) -> None:
    lookups = Lookups()
    resolver = lookups.resolver(failure_ttl_s)
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="unknown"):
            await resolver.addresses("b.example")
    assert len(lookups.asked) == queries
    lookups.now_s = 10.0
    with pytest.raises(socket.gaierror):
        await resolver.addresses("b.example")
    assert len(lookups.asked) == queries + 1


async def test_a_detached_lookup_gives_each_address_once() -> None:
    found = await detached_lookup("localhost")
    assert set(found) <= {"127.0.0.1", "::1"}
    assert len(found) == len(set(found)) > 0


async def test_a_name_that_dns_cannot_carry_is_an_oserror() -> None:
    with pytest.raises(OSError, match="cannot be put into a DNS query"):
        await Resolver(connect_to={}, lookup=detached_lookup).addresses("a" * 64 + ".example")
