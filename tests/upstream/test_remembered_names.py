"""How long addresses and failures are remembered, and when old addresses are used."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cacheserver.core.errors import AddressRefused, ResolveFailed
from cacheserver.core.request.addresses import Network
from cacheserver.outgoing.resolver import Found
from cacheserver.upstream.resolver import VettedResolver
from tests.support.flow import eventually
from tests.upstream.names import LOOPBACK, Clock, Dns, addresses, make


async def test_old_addresses_are_used_where_dns_is_silent_and_new_ones_when_they_have_come() -> None:
    dns, clock = Dns(a_example=["8.8.8.8"]), Clock()
    resolver = make(dns, clock=clock)
    await resolver.resolve("a.example", 80)
    clock.now_s += 3600
    dns.gate.clear()
    dns.table["a.example"] = ["1.1.1.1"]
    for _ in range(2):
        assert await addresses(resolver, "a.example") == [("8.8.8.8", 80)]

    async def answered() -> bool:
        return "a.example" not in resolver._queries

    dns.gate.set()
    await eventually(answered)
    assert await addresses(resolver, "a.example") == [("1.1.1.1", 80)]
    assert len(dns.asked) == 2


async def test_old_addresses_are_used_where_dns_fails_but_not_where_the_name_is_gone_nor_after_hours() -> None:
    dns, clock = Dns(a_example=["8.8.8.8"]), Clock()
    resolver = make(dns, clock=clock)
    await resolver.resolve("a.example", 80)
    clock.now_s += 60
    dns.table["a.example"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    assert await addresses(resolver, "a.example") == [("8.8.8.8", 80)]
    clock.now_s += 6 * 3600
    with pytest.raises(ResolveFailed):
        await resolver.resolve("a.example", 80)
    dns.table["a.example"] = ["8.8.8.8"]
    await resolver.resolve("a.example", 80)
    clock.now_s += 60
    for gone in (socket.gaierror(socket.EAI_NONAME, "unknown"), socket.gaierror(socket.EAI_AGAIN, "try again")):
        dns.table["a.example"] = gone
        with pytest.raises(ResolveFailed):
            await resolver.resolve("a.example", 80)


async def test_old_addresses_are_vetted_like_new_ones() -> None:
    permitted: list[Network] = list(LOOPBACK)
    dns, clock = Dns(a_example=["127.0.0.1"]), Clock()
    resolver = VettedResolver(connect_to={}, allowed_for=lambda _host: tuple(permitted), monotonic_s=clock, lookup=dns)
    await resolver.resolve("a.example", 80)
    clock.now_s += 60
    dns.table["a.example"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    permitted.clear()
    with pytest.raises(AddressRefused):
        await resolver.resolve("a.example", 80)


@pytest.mark.parametrize(("ttl_s", "used_s"), [(0.0, 1.0), (7.0, 7.0), (500.0, 30.0)])
async def test_the_lifetime_that_dns_gives_counts_within_bounds(ttl_s: float, used_s: float) -> None:
    asked, clock = 0, Clock()

    async def lookup(_host: str) -> Found:
        nonlocal asked
        asked += 1
        return Found(("8.8.8.8",), ttl_s)

    resolver = VettedResolver(connect_to={}, allowed_for=lambda _host: (), ttl_s=30, monotonic_s=clock, lookup=lookup)
    await resolver.resolve("a.example", 80)
    clock.now_s += used_s - 0.1
    await resolver.resolve("a.example", 80)
    assert asked == 1
    clock.now_s += 0.1
    await resolver.resolve("a.example", 80)
    assert asked == 2


async def test_who_asks_for_a_name_that_has_been_silent_for_long_is_told_at_once() -> None:
    dns, clock = Dns(), Clock()
    dns.gate.clear()
    resolver = make(dns, clock=clock)
    first = asyncio.create_task(resolver.resolve("a.example", 80))
    await dns.questions.get()
    clock.now_s += 6
    with pytest.raises(ResolveFailed):
        async with asyncio.timeout(2):
            await resolver.resolve("a.example", 80)
    assert len(dns.asked) == 1
    first.cancel()
    await resolver.close()


@pytest.mark.parametrize(("error", "kept_s"), [(socket.EAI_NONAME, 5.0), (socket.EAI_AGAIN, 0.5)])
async def test_failures_are_remembered_those_that_may_pass_for_less_long(error: int, kept_s: float) -> None:
    dns, clock = Dns(a_example=socket.gaierror(error, "no")), Clock()
    resolver = VettedResolver(
        connect_to={}, allowed_for=lambda _host: (), failure_ttl_s=5.0, monotonic_s=clock, lookup=dns
    )
    for wait_s, asked in ((0.0, 1), (kept_s - 0.1, 1), (0.1, 2)):
        clock.now_s += wait_s
        with pytest.raises(ResolveFailed):
            await resolver.resolve("a.example", 80)
        assert len(dns.asked) == asked


async def test_while_many_names_are_silent_none_is_waited_for_long() -> None:
    dns, clock = Dns(well_example=["8.8.8.8"]), Clock()
    dns.gate.clear()
    resolver = make(dns, clock=clock)
    asking = [asyncio.create_task(resolver.resolve(f"s{number}.example", 80)) for number in range(8)]
    for _ in asking:
        await dns.questions.get()
    clock.now_s += 1.5
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ResolveFailed] * 8
    dns.gate.set()
    assert await addresses(resolver, "well.example") == [("8.8.8.8", 80)]
    await resolver.close()
