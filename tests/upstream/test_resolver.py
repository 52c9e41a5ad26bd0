"""The resolver: every address is vetted, one query serves all, and its errors reach the caller through aiohttp."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cacheserver.core.errors import AddressRefused, ConfigError, ResolveFailed
from cacheserver.core.request.addresses import Network
from cacheserver.outgoing import resolver as base
from cacheserver.outgoing.resolver import detached_lookup
from cacheserver.upstream.resolver import VettedResolver
from tests.upstream.names import LOOPBACK, Clock, Dns, addresses, make

# -- vetting ----------------------------------------------------------------------------------------------------


async def test_only_admitted_addresses_are_returned_in_dns_order() -> None:
    dns = Dns(a_example=["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "2606:4700::1", "fe80::1%2", "1.1.1.1"])
    results = await make(dns).resolve("a.example", 443)
    assert [(each["host"], each["port"], each["family"]) for each in results] == [
        ("8.8.8.8", 443, socket.AF_INET),
        ("2606:4700::1", 443, socket.AF_INET6),
        ("1.1.1.1", 443, socket.AF_INET),
    ]
    assert {each["hostname"] for each in results} == {"a.example"}


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:8.8.8.8", "not an address"])
async def test_a_host_with_refused_addresses_alone_is_refused(ip: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await make(Dns(a_example=[ip])).resolve("a.example", 80)
    assert caught.value.source == "a.example:80"
    assert not caught.value.retryable


async def test_the_operators_blocks_are_asked_for_by_host_and_each_time() -> None:
    permitted: dict[str, tuple[Network, ...]] = {"a.example": LOOPBACK}
    dns = Dns(a_example=["127.0.0.1"], b_example=["127.0.0.1"])
    resolver = VettedResolver(connect_to={}, allowed_for=lambda host: permitted.get(host, ()), lookup=dns)
    assert await addresses(resolver, "a.example") == [("127.0.0.1", 80)]
    with pytest.raises(AddressRefused):
        await resolver.resolve("b.example", 80)
    permitted.clear()
    with pytest.raises(AddressRefused):
        await resolver.resolve("a.example", 80)
    assert dns.asked == ["a.example", "b.example"]


@pytest.mark.parametrize("answer", [[], socket.gaierror(socket.EAI_AGAIN, "try again"), OSError("no network")])
async def test_no_answer_is_resolve_failed(answer: Sequence[str] | Exception) -> None:
    with pytest.raises(ResolveFailed) as caught:
        await make(Dns(a_example=answer)).resolve("a.example", 80)
    assert caught.value.source == "a.example:80"


async def test_a_family_without_address_is_resolve_failed() -> None:
    resolver = make(Dns(a_example=["8.8.8.8", "2606:4700::1"], b_example=["8.8.8.8"]))
    (result,) = await resolver.resolve("a.example", 80, socket.AF_INET6)
    assert result["host"] == "2606:4700::1"
    with pytest.raises(ResolveFailed):
        await resolver.resolve("b.example", 80, socket.AF_INET6)


def vet_literal(host: str, allowed: tuple[Network, ...] = ()) -> None:
    VettedResolver(connect_to={}, allowed_for=lambda _host: allowed).vet_literal(host, 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "::1", "10.0.0.1", "[fd00::1]", "169.254.169.254"])
def test_refused_literals_are_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        vet_literal(host)


def test_names_public_literals_and_permitted_literals_pass() -> None:
    for host in ("localhost", "a.example", "8.8.8.8", "[2606:4700::1]"):
        vet_literal(host)
    for host in ("127.0.0.1", "[::1]", "::1"):
        vet_literal(host, LOOPBACK)


async def test_the_resolver_vets_literals_by_the_blocks_of_their_host() -> None:
    resolver = VettedResolver(connect_to={}, allowed_for=lambda host: LOOPBACK if host == "127.0.0.1" else ())
    resolver.vet_literal("127.0.0.1", 80)
    resolver.vet_literal("a.example", 80)
    with pytest.raises(AddressRefused) as caught:
        resolver.vet_literal("127.0.0.2", 8080)
    assert caught.value.source == "127.0.0.2:8080"


# -- overrides --------------------------------------------------------------------------------------------------


async def test_connect_to_replaces_address_and_port_without_dns_or_vetting() -> None:
    dns = Dns(a_example=["8.8.8.8"])
    overrides = {"a.example:443": ("127.0.0.1", 9443), "A.example": ("::1", 9001), "b.example:80": ("10.0.0.1", 9002)}
    resolver = make(dns, connect_to=overrides)
    assert await addresses(resolver, "a.example", 443) == [("127.0.0.1", 9443)]
    assert await addresses(resolver, "a.example", 80) == [("::1", 9001)]
    assert await addresses(resolver, "b.example", 80) == [("10.0.0.1", 9002)]
    assert dns.asked == []
    with pytest.raises(ResolveFailed):
        await resolver.resolve("b.example", 443)


@pytest.mark.parametrize(
    ("key", "address"),
    [("a.example", "localhost"), ("a b", "127.0.0.1"), ("192.0.2.1", "127.0.0.1"), ("[::1]:80", "127.0.0.1")],
)
async def test_connect_to_maps_names_to_addresses_only(key: str, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(Dns(), connect_to={key: (address, 80)})
    assert caught.value.key == f"upstream.connect_to.{key}"


# -- lifetime and sharing ---------------------------------------------------------------------------------------


async def test_an_answer_is_used_until_its_lifetime_ends() -> None:
    dns, clock = Dns(a_example=["8.8.8.8"]), Clock()
    resolver = make(dns, clock=clock, ttl_s=30)
    for port in (80, 443):
        await resolver.resolve("a.example", port)
    clock.now_s += 29.9
    await resolver.resolve("a.example", 80)
    assert len(dns.asked) == 1
    clock.now_s += 0.1
    dns.table["a.example"] = ["1.1.1.1"]
    assert await addresses(resolver, "a.example") == [("1.1.1.1", 80)]
    assert len(dns.asked) == 2


async def test_failures_and_answers_without_lifetime_are_not_remembered() -> None:
    dns = Dns(b_example=["8.8.8.8"])
    resolver = make(dns, ttl_s=0)
    with pytest.raises(ResolveFailed):
        await resolver.resolve("a.example", 80)
    dns.table["a.example"] = ["8.8.8.8"]
    for host in ("a.example", "b.example", "b.example"):
        await resolver.resolve(host, 80)
    assert dns.asked == ["a.example", "a.example", "b.example", "b.example"]


async def test_an_answer_without_addresses_is_not_remembered() -> None:
    dns = Dns(a_example=[])
    resolver = make(dns)
    for _ in range(2):
        with pytest.raises(ResolveFailed):
            await resolver.resolve("a.example", 80)
    assert len(dns.asked) == 2


async def test_the_oldest_answers_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_CACHED", 2)
    dns = Dns(a_example=["8.8.8.8"], b_example=["8.8.8.8"], c_example=["8.8.8.8"])
    resolver = make(dns)
    for host in ("a.example", "b.example", "c.example", "c.example", "b.example", "a.example"):
        await resolver.resolve(host, 80)
    assert dns.asked == ["a.example", "b.example", "c.example", "a.example"]


async def test_concurrent_lookups_share_one_query() -> None:
    dns = Dns(a_example=["8.8.8.8"])
    dns.gate.clear()
    resolver = make(dns, ttl_s=0)
    waiting = [asyncio.create_task(resolver.resolve("a.example", port)) for port in (80, 443, 80)]
    await dns.questions.get()
    dns.gate.set()
    results = await asyncio.gather(*waiting)
    assert [found[0]["port"] for found in results] == [80, 443, 80]
    assert dns.asked == ["a.example"]


async def test_one_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    dns = Dns(a_example=["8.8.8.8"])
    dns.gate.clear()
    resolver = make(dns)
    leaver, stayer = (asyncio.create_task(resolver.resolve("a.example", 80)) for _ in range(2))
    await dns.questions.get()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    dns.gate.set()
    assert (await stayer)[0]["host"] == "8.8.8.8"
    assert dns.asked == ["a.example"]


async def test_a_failure_is_shared_and_one_that_nobody_awaits_is_silent() -> None:
    dns = Dns()
    dns.gate.clear()
    resolver = make(dns)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    waiting = [asyncio.create_task(resolver.resolve("a.example", 80)) for _ in range(2)]
    leaver = asyncio.create_task(resolver.resolve("b.example", 80))
    assert {await dns.questions.get(), await dns.questions.get()} == {"a.example", "b.example"}
    leaver.cancel()
    dns.gate.set()
    failures = await asyncio.gather(*waiting, leaver, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ResolveFailed, ResolveFailed, asyncio.CancelledError]
    gc.collect()
    assert reported == []


async def test_closing_ends_queries_and_tells_their_askers() -> None:
    dns = Dns(a_example=["8.8.8.8"])
    dns.gate.clear()
    resolver = make(dns)
    asker = asyncio.create_task(resolver.resolve("a.example", 80))
    await dns.questions.get()
    await resolver.close()
    with pytest.raises(ResolveFailed):
        await asker


# -- the system's resolver and aiohttp --------------------------------------------------------------------------


async def test_a_scope_is_kept_so_that_vetting_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2606:4700::1", 0, 0, 3))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await detached_lookup("a.example") == ("2606:4700::1%3",)


async def test_a_name_that_dns_cannot_carry_is_resolve_failed() -> None:
    resolver = VettedResolver(connect_to={}, allowed_for=lambda host: ())
    with pytest.raises(ResolveFailed):
        await resolver.resolve("a" * 64 + ".example", 80)


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))[6:]
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(host), host))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def origin() -> AsyncIterator[int]:
    server = await asyncio.start_server(answer_ok, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def session(resolver: VettedResolver, *, use_dns_cache: bool) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=use_dns_cache)
    async with aiohttp.ClientSession(connector=connector) as client:
        yield client
    await resolver.close()


@pytest.mark.parametrize("use_dns_cache", [False, True])
async def test_aiohttp_connects_to_the_override_and_to_permitted_addresses(use_dns_cache: bool) -> None:
    async with origin() as port:
        dns = Dns(b_example=["10.255.255.1", "127.0.0.1"])
        resolver = make(dns, allowed=LOOPBACK, connect_to={"a.example": ("127.0.0.1", port)})
        async with session(resolver, use_dns_cache=use_dns_cache) as client:
            async with client.get("http://a.example/x") as answer:
                assert await answer.text() == "a.example"
            async with client.get(f"http://b.example:{port}/x") as answer:
                assert await answer.text() == f"b.example:{port}"


@pytest.mark.parametrize("use_dns_cache", [False, True])
async def test_our_errors_pass_through_aiohttp_unchanged_and_without_tokens(use_dns_cache: bool) -> None:
    resolver = make(Dns(private_example=["127.0.0.1"]))
    async with session(resolver, use_dns_cache=use_dns_cache) as client:
        with pytest.raises(AddressRefused) as refused:
            await client.get("http://private.example/x?P4=secret")
        with pytest.raises(ResolveFailed) as failed:
            await client.get("http://missing.example/x?P4=secret")
    assert "secret" not in f"{refused.value} {failed.value}"
    assert (refused.value.source, failed.value.source) == ("private.example:80", "missing.example:80")


async def test_aiohttp_never_asks_the_resolver_about_literals() -> None:
    async with origin() as port:
        dns = Dns()
        async with (
            session(make(dns), use_dns_cache=False) as client,
            client.get(f"http://127.0.0.1:{port}/") as answer,
        ):
            assert answer.status == 200
        assert dns.asked == []
